//! The maps of isolated pods in table `inet podwire-policy`, each entry of which leads to the chain that judges the packets of its
//! address. The daemon keeps them; of a pod that it does not know in time the plugin adds the addresses. To these chains a pod
//! without a subject is allowed nothing.

use std::net::IpAddr;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Branch, Content, Entries, Field, Set, Type};

/// How the names of the chains, maps and sets of a direction begin: packets to pods, and packets from them.
pub const INGRESS: &str = "ingress";
/// See [`INGRESS`].
pub const EGRESS: &str = "egress";

/// How an isolated address is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judged {
    /// By what NetworkPolicies allow.
    ByRules,
    /// By what the tiers have decided: ClusterNetworkPolicies select the pod, too.
    ByTiers,
}

impl Judged {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ByRules, Self::ByTiers];

    /// The chain that judges packets of a version in a direction.
    pub fn chain(self, direction: &str, version: IpVersion) -> String {
        match self {
            Self::ByRules => format!("{direction}{}", version.digit()),
            Self::ByTiers => format!("{direction}-tiers{}", version.digit()),
        }
    }
}

/// Isolated addresses, and the chain that judges them.
pub fn isolated(direction: &str, version: IpVersion) -> Set {
    let name = format!("{direction}-isolated{}", version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Verdicts }
}

/// The entries of a map.
pub fn entries(direction: &str, version: IpVersion, addresses: impl IntoIterator<Item = (IpAddr, Judged)>) -> Entries {
    let branches = Judged::ALL.map(|judged| Branch::Jump(judged.chain(direction, version)));
    let place = |judged| usize::from(judged == Judged::ByTiers);
    let entries = addresses.into_iter().map(|(address, judged)| ([Field::Address(address)], place(judged)));
    Entries::branches(isolated(direction, version), &branches, entries)
}

/// What isolates these addresses in both directions.
pub fn isolate(addresses: &[IpAddr]) -> Vec<Entries> {
    let of_direction = |direction| {
        IpVersion::BOTH.map(|version| {
            let own = addresses.iter().copied().filter(|address| IpVersion::of(*address) == version);
            entries(direction, version, own.map(|address| (address, Judged::ByRules)))
        })
    };
    [INGRESS, EGRESS].into_iter().flat_map(of_direction).collect()
}
