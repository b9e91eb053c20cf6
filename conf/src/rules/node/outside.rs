//! What pods may send to the outside of the cluster: where to, and never under their own address where they are
//! masqueraded.

use ipnetwork::IpNetwork;
use podwire_kernel::family;
use podwire_kernel::nft::{Base, Chain, ChainHook, ChainType, Rule};

use crate::defaults::{GATEWAY4, HOST_VETH_PREFIX};
use crate::rules::node::config::NodeConfig;
use crate::rules::node::counters::{DESTINATIONS, UNTRANSLATED};
use crate::rules::node::path_mtu;

/// The chain for what pods send to others.
pub(super) const POD_DESTINATIONS: &str = "guard-destinations";
/// The chain that all forwarded packets pass.
pub(super) const OUTSIDE: &str = "guard-outside";
/// The chain for those without a connection.
pub(super) const UNTRACKED: &str = "guard-untracked";

/// `NF_IP_PRI_FILTER` (uapi/linux/netfilter_ipv4.h).
pub(super) const FILTER: i32 = 0;

/// What pods send.
pub(super) fn from_pods() -> Rule {
    Rule::new().iifname(HOST_VETH_PREFIX).jump(POD_DESTINATIONS)
}

/// The chain that [`from_pods`] jumps to. The gateway's address is nobody's outside of a pod, and would leave by the
/// node's default route.
///
/// As in a routing table the longer prefix counts: a refused part of the cluster is refused, and of a refused prefix that
/// has the cluster in it all but the cluster.
pub(super) fn destinations(config: &NodeConfig<'_>) -> Chain {
    let refuse = |prefix: IpNetwork| Rule::new().to(prefix).count(DESTINATIONS).drop();
    let (inside, outside): (Vec<_>, Vec<_>) =
        config.refused_destinations.iter().partition(|prefix| is_in_cluster(config, **prefix));
    let cluster = config.cluster_cidrs.iter().map(|cidr| Rule::new().to(*cidr).return_());
    let outside = std::iter::once(family::host(GATEWAY4.into())).chain(outside);
    let rules = inside.into_iter().map(refuse).chain(cluster).chain(outside.map(refuse)).collect();
    Chain { name: POD_DESTINATIONS.into(), base: None, rules }
}

/// Whether a prefix is a part of the cluster, or as large as a range of it.
pub(super) fn is_in_cluster(config: &NodeConfig<'_>, prefix: IpNetwork) -> bool {
    config.cluster_cidrs.iter().any(|cidr| family::contains(*cidr, prefix))
}

/// The chains against packets that leave untranslated, where pods are masqueraded: those that conntrack calls invalid, and
/// those that it does not track (IPv6 neighbour discovery, which a pod may send anywhere). Between pods nothing is
/// translated, and the paths of the two directions may differ; but nobody there may be told of a smaller path without a
/// connection.
pub(super) fn untranslated(config: &NodeConfig<'_>) -> [Chain; 2] {
    let base = Base { chain_type: ChainType::Filter, hook: ChainHook::Forward, priority: FILTER };
    let stay = config.cluster_cidrs.iter().chain(config.not_masqueraded);
    let stay = stay.map(|cidr| Rule::new().to(*cidr).return_());
    let leave = config.own_pod_cidrs.iter().map(|cidr| Rule::new().from(*cidr).count(UNTRANSLATED).drop());
    // Chains of type nat see none of these packets: where pods are refused is asked here as well.
    let judged = path_mtu::drop_all().chain([from_pods()]);
    [
        Chain { name: OUTSIDE.into(), base: Some(base), rules: vec![Rule::new().without_connection().jump(UNTRACKED)] },
        Chain { name: UNTRACKED.into(), base: None, rules: judged.chain(stay).chain(leave).collect() },
    ]
}
