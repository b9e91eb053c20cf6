//! The firewall that follows from a configuration: a pure function, so that whoever finds it missing or different writes
//! the same.

use ipnetwork::IpNetwork;
use podwire_kernel::nft::{At, Base, Chain, Kind, Rule, Table};

use crate::defaults;
use crate::translation::SOURCE_NAT;

/// The table: packets of this node's pods leave the cluster under the node's address. Nothing else is translated: what
/// goes to a pod is accepted first, whoever sent it, and what is tunnelled already bears the node's own source.
pub fn table(cluster_cidrs: &[IpNetwork], own_pod_cidrs: &[IpNetwork]) -> Table {
    let stay = cluster_cidrs.iter().map(|cidr| Rule::new().to(*cidr).accept());
    let leave = own_pod_cidrs.iter().map(|cidr| Rule::new().from(*cidr).masquerade());
    let postrouting = Chain {
        name: "postrouting".into(),
        base: Some(Base { kind: Kind::Nat, hook: At::Postrouting, priority: SOURCE_NAT }),
        rules: stay.chain(leave).collect(),
    };
    Table { name: defaults::TABLE.into(), sets: Vec::new(), chains: vec![postrouting] }
}
