//! The guard against packets beside the overlay: from an address of the cluster, not encapsulated, and not from a pod.
//!
//! Where peers are reached by plain routes, the routing tables know by which device a source may come, and the node's
//! addresses which other devices are on the same link. On that link the source address is all that is known of a sender.

use std::net::Ipv6Addr;

use podwire_kernel::nft::{Base, Chain, ChainHook, ChainType, Rule};

use crate::defaults::{HOST_VETH_PREFIX, OVERLAY_DEVICE};
use crate::rules::masquerade::prefix;
use crate::rules::node::config::NodeConfig;
use crate::rules::node::counters::PLAIN;
use crate::rules::node::dropped;

/// Right behind `NF_IP_PRI_CONNTRACK` (uapi/linux/netfilter_ipv4.h), and before whoever translates destinations.
const TRACKED: i32 = -199;

/// The chain for packets from the cluster's addresses that came by other devices than the overlay's and pods'.
pub(super) const BESIDE: &str = "guard-plain";

/// The same for what is sent to the node itself, where connection tracking knows whether it is a reply.
pub(super) const FIRST: &str = "guard-plain-first";
/// The chain that it jumps to.
pub(super) const BESIDE_FIRST: &str = "guard-plain-new";
/// The chain of what is dropped.
pub(super) const REFUSED: &str = "guard-plain-refused";

/// The rules of the hooked chain, in which they are the last. Packets of the overlay never come so far, and packets of pods
/// and those that the overlay carried are compared with a name or two.
///
/// An IPv4-mapped source (RFC 4291, section 2.5.5.2) belongs on no wire: a program that listens to both families would take
/// the packet for one of that IPv4 address, a pod's or 127.0.0.1. From pods and from peers such a source is not theirs.
pub(super) fn rules(config: &NodeConfig<'_>) -> Vec<Rule> {
    let mapped = prefix(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0).into(), 96);
    jump(config, BESIDE).into_iter().chain([Rule::new().from(mapped).not_by_loopback().count(PLAIN).drop()]).collect()
}

fn jump(config: &NodeConfig<'_>, chain: &str) -> Vec<Rule> {
    let inside = [HOST_VETH_PREFIX, OVERLAY_DEVICE].map(|device| Rule::new().iifname(device).return_());
    let from_cluster = config.cluster_cidrs.iter().map(|cidr| Rule::new().from(*cidr).jump(chain));
    inside.into_iter().chain(from_cluster).collect()
}

/// The chains that follow, hooked and not.
///
/// A program of the node that sends to a pod elsewhere from an address of the node, and not from its overlay address, is
/// answered by a plain packet. Whether a packet to such an address is an answer, conntrack knows; a chain of type `nat` sees
/// no answers, and the first packet of a connection before it is translated.
pub(super) fn chains(config: &NodeConfig<'_>) -> Vec<Chain> {
    let [mut beside, mut new] =
        [BESIDE, BESIDE_FIRST].map(|name| Chain { name: name.into(), base: None, rules: others(config) });
    let refused = refused(config);
    let judged = Rule::new().jump(REFUSED);
    if !config.masquerade {
        // Without chains of type nat connections may not be tracked, and peers' pods may send to the node anyway.
        beside.rules.push(judged);
        return vec![beside, refused];
    }
    beside.rules.extend(config.cluster_cidrs.iter().map(|cidr| Rule::new().to(*cidr).jump(REFUSED)));
    beside.rules.extend([Rule::new().to_local().return_(), judged.clone()]);
    new.rules.push(judged);
    let base = Base { chain_type: ChainType::Nat, hook: ChainHook::Prerouting, priority: TRACKED };
    let first = Chain { name: FIRST.into(), base: Some(base), rules: jump(config, BESIDE_FIRST) };
    vec![beside, first, new, refused]
}

/// The chain of what is dropped. What has come under the address of a peer's pod, and by another device than the plain route
/// to it, is recorded: for whoever looks for the cause, a wrong device is easily taken for a silent peer.
fn refused(config: &NodeConfig<'_>) -> Chain {
    let astray = config.link.into_iter().flat_map(|link| dropped::record_astray(link.device));
    let rules = astray.chain([Rule::new().count(PLAIN).drop()]).collect();
    Chain { name: REFUSED.into(), base: None, rules }
}

/// What is accepted, or dropped, whether it is an answer or not.
fn others(config: &NodeConfig<'_>) -> Vec<Rule> {
    let mut rules = vec![Rule::new().by_loopback().return_()];
    // While nodes change their mode one after another, either way may lead back.
    if config.plain_routes || config.accept_plain {
        rules.push(Rule::new().with_reverse_route().return_());
    }
    // A node answers ARP for an address by any of its devices on the link, so a peer may send to another one than its
    // plain route leads to. What is routed to the device of plain routes is a peer's that has one.
    if let Some(link) = config.link {
        let by = |device: &&str| Rule::new().by_device(device).from_behind_device(link.device).return_();
        rules.extend(link.others.iter().map(by));
    }
    // What is routed into the overlay is a peer's.
    let of_peer = || Rule::new().from_behind(OVERLAY_DEVICE).return_();
    if config.accept_plain {
        rules.push(of_peer());
    } else if !config.masquerade || !config.not_masqueraded.is_empty() {
        // Pods of peers come under their own addresses to what is outside of the cluster, nodes among it, and never so to
        // pods.
        rules.extend(config.cluster_cidrs.iter().map(|cidr| Rule::new().to(*cidr).jump(REFUSED)));
        let to = if config.masquerade { config.not_masqueraded } else { &[] };
        rules.extend(to.iter().map(|prefix| Rule::new().to(*prefix).from_behind(OVERLAY_DEVICE).return_()));
        rules.extend((!config.masquerade).then(of_peer));
    }
    rules
}
