//! A route of the pod, as a user writes it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::family;
use serde::Serialize;

use crate::invalid::Invalid;
use crate::json::Field;
use crate::range::Range;

/// A route of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The destination; 0.0.0.0/0 and ::/0 are the default routes.
    #[serde(rename = "dst")]
    pub destination: IpNetwork,
    /// The metric: the lowest of several routes to the destination is used. 0 is the family's default.
    #[serde(rename = "priority", skip_serializing_if = "is_zero")]
    pub metric: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(metric: &u32) -> bool {
    *metric == 0
}

impl Route {
    pub(crate) fn read(field: &Field<'_>, ranges: &[Vec<Range>]) -> Result<Self, Invalid> {
        let Some(destination) = field.get("dst")? else { return field.wrong("has no \"dst\"") };
        let destination: IpNetwork = destination.parse("a prefix, as in 10.0.0.0/8")?;
        // A gateway other than the node is not possible: a pod has no other neighbour. The gateway of a range stands
        // for the node.
        if let Some(gateway) = field.get("gw")? {
            let address: IpAddr = gateway.parse("an address")?;
            if !ranges.iter().flatten().any(|range| range.reserved() == address) {
                let why = "cannot be the next hop of a pod, whose only neighbour is its node: remove it";
                return gateway.wrong(why);
            }
        }
        for key in ["table", "scope", "mtu", "advmss"] {
            if let Some(option) = field.get(key)? {
                return option.wrong("is a route option that podwire does not support: remove it");
            }
        }
        let metric = match field.get("priority")? {
            None => 0,
            Some(field) => match u32::try_from(field.number()?) {
                Ok(metric) => metric,
                Err(_) => return field.wrong("is greater than 4294967295"),
            },
        };
        Ok(Self { destination: family::masked(destination), metric })
    }
}
