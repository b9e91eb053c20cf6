//! What policies have refused, and what those would have refused that are not enforced, by the address of the pod that was judged.
//!
//! What may not live here: whose the addresses are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use podwire_conf::defaults::POLICY_TABLE;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{self, Field, Set};
use podwire_kernel::{Result, Socket};

use crate::datapath::policy::layout;
use crate::policy::network_policy::Direction;

/// Packets that were refused, or would have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// That a pod has sent.
    pub from_pod: u64,
    /// That were sent to it.
    pub to_pod: u64,
}

/// How many packets policies have refused, by each isolated address of which there were any. The count begins when the address
/// becomes isolated.
///
/// # Errors
/// When the kernel refuses to answer.
pub(crate) fn by_address(socket: &mut Socket) -> Result<BTreeMap<IpAddr, Refused>> {
    tallied(socket, layout::refused)
}

/// The same of packets that passed, and that policies would have refused which are not enforced.
///
/// # Errors
/// When the kernel refuses to answer.
pub(crate) fn would_be(socket: &mut Socket) -> Result<BTreeMap<IpAddr, Refused>> {
    tallied(socket, layout::audited)
}

fn tallied(socket: &mut Socket, set: fn(Direction, IpVersion) -> Set) -> Result<BTreeMap<IpAddr, Refused>> {
    let mut found: BTreeMap<IpAddr, Refused> = BTreeMap::new();
    for direction in Direction::BOTH {
        for version in IpVersion::BOTH {
            let tallies = nft::tallies(socket, POLICY_TABLE, &set(direction, version))?;
            for tally in tallies.iter().filter(|tally| tally.packets > 0) {
                let [Field::Address(address)] = tally.key[..] else { continue };
                let refused = found.entry(address).or_default();
                match direction {
                    Direction::Ingress => refused.to_pod = tally.packets,
                    Direction::Egress => refused.from_pod = tally.packets,
                }
            }
        }
    }
    Ok(found)
}
