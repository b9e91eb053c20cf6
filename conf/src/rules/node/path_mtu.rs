//! The guard of the paths' MTU: which ICMP errors the node does not take to heart.
//!
//! The kernel keeps a path MTU for each destination, whatever the packet was that an error quotes, and the overlay's
//! packets to that destination follow it. Who may send such an error is checked for TCP only, whose sequence numbers
//! must be right (net/ipv4/tcp_ipv4.c, `tcp_v4_err`): errors about datagrams, echoes and tunnels can be made up by anyone
//! who knows the destination. For what is the cluster's they count for nothing: podwired measures the paths to peers
//! itself. What a peer itself sends is believed.
//!
//! Pods keep a path MTU for each destination as well. An error that is forwarded to one is dropped where it belongs to no
//! connection; without a masquerade, when connections may not be tracked, it is judged as one for the node.

use std::time::Duration;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Bounds, Chain, Content, PacketField, Rule, Set, Type};

use crate::rules::node::config::NodeConfig;
use crate::rules::node::counters::PATH_MTU;
use crate::rules::node::dropped::SETS;
use crate::rules::node::sources::{peer_set, quoted_set};

/// The chains for such errors, of each version.
pub(super) const CHAINS: [&str; 2] = ["guard-path-mtu4", "guard-path-mtu6"];

/// How many peers a set of [`claimed`] has, and how long. What fills it by forged errors keeps others' peers out of it, whose
/// paths are then measured when they would have been anyway.
const BOUNDS: Bounds = Bounds { size: 256, timeout: Duration::from_secs(60) };

/// The peers to which the path is smaller, as an error has claimed that was dropped here: their paths are worth a measurement.
/// As for the peers themselves, what is quoted is a number.
pub fn claimed(underlay: IpVersion) -> Set {
    let name = format!("{SETS}path-mtu{}", underlay.digit());
    Set { name, key: vec![Type::QuotedDestination(underlay)], content: Content::Recorded(BOUNDS) }
}

/// The rules that lead here.
pub(super) fn rules() -> impl Iterator<Item = Rule> {
    both().map(|(version, name)| Rule::new().says_too_large(version).jump(name))
}

/// Drops every such error: one of a pod to its node, since a pod is at the end of its path, and one that no connection
/// explains.
pub(super) fn drop_all() -> impl Iterator<Item = Rule> {
    IpVersion::BOTH.into_iter().map(|version| Rule::new().says_too_large(version).count(PATH_MTU).drop())
}

/// The chains.
pub(super) fn chains(config: &NodeConfig<'_>) -> impl Iterator<Item = Chain> {
    both().map(|(version, name)| Chain { name: name.into(), base: None, rules: guard(config, version) })
}

fn both() -> impl Iterator<Item = (IpVersion, &'static str)> {
    IpVersion::BOTH.into_iter().zip(CHAINS)
}

fn guard(config: &NodeConfig<'_>, version: IpVersion) -> Vec<Rule> {
    let drop = |rule: Rule| rule.count(PATH_MTU).drop();
    let underlay = IpVersion::of(config.own);
    let mut rules = vec![Rule::new().quotes_tcp(version).return_()];
    if version == underlay {
        // A peer says it of what is too large for its pods: answers to them go to the peer's address.
        rules.push(
            Rule::new().of(underlay).in_set(&peer_set(underlay).name, &[PacketField::Source(underlay)]).return_(),
        );
        let to_peer = [PacketField::QuotedDestination(version)];
        let about_peer = || Rule::new().in_set(&quoted_set(version).name, &to_peer);
        rules.extend([about_peer().record(&claimed(version).name, &to_peer), drop(about_peer())]);
    }
    let cluster = config.cluster_cidrs.iter().filter(|cidr| IpVersion::of(cidr.ip()) == version);
    rules.extend(cluster.map(|cidr| drop(Rule::new().quotes_to(*cidr))));
    rules.push(Rule::new().quotes_destination(version).return_());
    // It quotes too little to be judged: a fragment, or none that a router would send.
    rules.push(drop(Rule::new()));
    rules
}
