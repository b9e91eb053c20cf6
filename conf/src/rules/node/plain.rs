//! The guard against packets beside the overlay: from an address of the cluster, not encapsulated, and not from a pod.
//!
//! Where peers are reached by plain routes, the routing tables know by which device a source may come. On that link the
//! source address is all that is known of a sender.

use podwire_kernel::nft::{Chain, Rule};

use crate::defaults::{HOST_VETH_PREFIX, OVERLAY_DEVICE};
use crate::rules::node::config::NodeConfig;
use crate::rules::node::counters::PLAIN;

/// The chain for packets from the cluster's addresses that came by other devices than the overlay's and pods'.
pub(super) const BESIDE: &str = "guard-plain";

/// The rules of the hooked chain, in which they are the last. Packets of the overlay never come so far, and packets of pods
/// and those that the overlay carried are compared with a name or two.
pub(super) fn rules(config: &NodeConfig<'_>) -> Vec<Rule> {
    let inside = [HOST_VETH_PREFIX, OVERLAY_DEVICE].map(|device| Rule::new().iifname(device).return_());
    let from_cluster = config.cluster_cidrs.iter().map(|cidr| Rule::new().from(*cidr).jump(BESIDE));
    inside.into_iter().chain(from_cluster).collect()
}

/// The chain that they jump to.
pub(super) fn chain(config: &NodeConfig<'_>) -> Chain {
    let mut rules = vec![Rule::new().by_loopback().return_()];
    // While nodes change their mode one after another, either way may lead back.
    if config.plain_routes || config.accept_plain {
        rules.push(Rule::new().with_reverse_route().return_());
    }
    // What is routed into the overlay is a peer's.
    let of_peer = || Rule::new().from_behind(OVERLAY_DEVICE).return_();
    if config.accept_plain {
        rules.push(of_peer());
    } else if !config.masquerade || !config.not_masqueraded.is_empty() {
        // Pods of peers come under their own addresses to what is outside of the cluster, nodes among it, and never so to
        // pods.
        rules.extend(config.cluster_cidrs.iter().map(|cidr| Rule::new().to(*cidr).count(PLAIN).drop()));
        let to = if config.masquerade { config.not_masqueraded } else { &[] };
        rules.extend(to.iter().map(|prefix| Rule::new().to(*prefix).from_behind(OVERLAY_DEVICE).return_()));
        rules.extend((!config.masquerade).then(of_peer));
    }
    rules.push(Rule::new().count(PLAIN).drop());
    Chain { name: BESIDE.into(), base: None, rules }
}
