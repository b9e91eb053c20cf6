//! What the replies of the peers mean: the cause that explains them, reported once however many peers it silences. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use podwire_conf::defaults;

use super::examined::ExaminedPeer;
use super::finding::{Finding, FindingKind};
use super::fix::command;

/// Peers of one cause that are named; the others are counted.
const NAMED: usize = 3;

/// What a peer has answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Its node's address.
    pub(super) underlay: bool,
    /// Its overlay addresses.
    pub(super) overlay: BTreeMap<IpAddr, bool>,
    /// Those of them that were probed with the largest packet of the overlay.
    pub(super) large: BTreeMap<IpAddr, bool>,
    /// The largest packet that came through the underlay whole, in bytes; nothing where it was not tried.
    pub(super) path: Option<usize>,
    /// Overlay addresses that answer echoes, and neither TCP nor UDP.
    pub(super) deaf: Vec<IpAddr>,
    /// Whether this node has no route to its address, as far as that was looked at.
    pub(super) unrouted: bool,
    /// An overlay address of its that packets leave for by another device than the overlay's, as far as that was looked at.
    pub(super) astray: Option<IpAddr>,
}

impl Seen {
    /// Overlay addresses that do not answer.
    fn silent(&self) -> String {
        listed(&self.overlay)
    }

    fn is_silent(&self) -> bool {
        !self.overlay.is_empty() && self.overlay.values().all(|answers| !answers)
    }
}

/// The addresses that have not answered.
fn listed(answers: &BTreeMap<IpAddr, bool>) -> String {
    let silent: Vec<_> = answers.iter().filter(|(_, answers)| !**answers).map(|(to, _)| to.to_string()).collect();
    silent.join(", ")
}

/// The sizes of the largest packets here, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) overlay: usize,
    pub(super) underlay: usize,
}

/// This node's side of the paths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) sizes: Sizes,
    /// The UDP port of the overlay.
    pub(super) port: u16,
    /// The device with this node's address.
    pub(super) interface: &'a str,
}

/// What is wrong with the paths to the peers.
pub(super) fn judge(peers: &[ExaminedPeer], seen: &[Seen], here: Here<'_>) -> Vec<Finding> {
    let all: Vec<_> = peers.iter().zip(seen).collect();
    // With one peer only there is no telling which of both it is.
    let several = all.len() > 1;
    if several && all.iter().all(|(_, seen)| !seen.underlay && seen.is_silent()) {
        return vec![cut_off(&all, here)];
    }
    let over_overlay = |peer: &ExaminedPeer, seen: &Seen| seen.overlay.keys().any(|address| !peer.is_plain(*address));
    let blocks =
        |(peer, seen): &(&ExaminedPeer, &Seen)| seen.is_silent() && seen.astray.is_none() && over_overlay(peer, seen);
    if several && all.iter().all(blocks) {
        return vec![blocked(&all, here)];
    }
    let mut findings: Vec<_> = all.iter().filter_map(|(peer, seen)| of_one(peer, seen, here)).collect();
    // Paths that take equally large packets are mostly one: so is their finding.
    let mut narrow: BTreeMap<(usize, bool), Vec<(&ExaminedPeer, &Seen)>> = BTreeMap::new();
    for (peer, seen) in all.iter().filter(|(_, seen)| seen.silent().is_empty()) {
        let path = seen.path.filter(|path| *path < here.sizes.underlay);
        let lost = seen.large.values().any(|answers| !answers);
        if lost || path.is_some() {
            narrow.entry((path.unwrap_or(here.sizes.underlay), lost)).or_default().push((peer, seen));
        }
    }
    findings.extend(narrow.into_iter().map(|((path, lost), peers)| too_narrow(&peers, path, lost, here)));
    findings
}

/// Names, and how many more.
fn names(peers: &[(&ExaminedPeer, &Seen)]) -> String {
    let named: Vec<_> = peers.iter().take(NAMED).map(|(peer, _)| peer.name.as_str()).collect();
    let more = peers.len() - named.len();
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// No peer answers at all.
fn cut_off(all: &[(&ExaminedPeer, &Seen)], here: Here<'_>) -> Finding {
    let (interface, first) = (here.interface, all[0].0.address);
    let (kind, why) = if all.iter().all(|(_, seen)| seen.unrouted) {
        (FindingKind::NoRouteToPeer, "this node has no route to them")
    } else {
        (FindingKind::NodeCutOff, "this node is cut off, or a firewall on it drops everything, or they all are down")
    };
    let cause = format!("no peer answers ({} tried: {}): {why}", all.len(), names(all));
    let fix = command!(
        "ip address show dev {}; ip route get {1}; ping {1}; nft list ruleset   # chains with `hook input` and `policy drop`",
        interface,
        first
    );
    Finding::general(kind, cause, fix)
}

/// No peer answers over the overlay, and some do on the underlay.
fn blocked(all: &[(&ExaminedPeer, &Seen)], here: Here<'_>) -> Finding {
    let (port, answering) = (here.port, all.iter().filter(|(_, seen)| seen.underlay).count());
    let cause = format!(
        "none of the {} other nodes answers over the overlay ({}), though {answering} answer on the underlay: UDP port {port} \
         is blocked on this node, or by the network between the nodes, or no other node has this one in its membership",
        all.len(),
        names(all)
    );
    let fix = command!(
        "here: iptables -I INPUT -p udp --dport {} -j ACCEPT   # and in the cloud's firewall; if the network itself drops \
         this port, another `port` in the settings of every node",
        port
    );
    Finding::general(FindingKind::OverlayPortBlocked, cause, fix)
}

/// What keeps one peer from answering, others not.
fn of_one(peer: &ExaminedPeer, seen: &Seen, here: Here<'_>) -> Option<Finding> {
    let ExaminedPeer { name, address, .. } = peer;
    let (silent, port) = (seen.silent(), here.port);
    if let Some(to) = seen.astray {
        let cause = format!("packets to {name} over the overlay ({to}) do not leave by {}", defaults::OVERLAY_DEVICE);
        let fix = command!("ip route get {}; podwired status", to);
        return Some(Finding::new(FindingKind::OverlayBypassed, name, cause, fix));
    }
    if !silent.is_empty() && !seen.underlay && seen.is_silent() {
        let (kind, cause) = if seen.unrouted {
            (FindingKind::NoRouteToPeer, format!("this node has no route to {name} at {address}"))
        } else {
            let cause = format!(
                "{name} does not answer at all, neither at {address} nor over the overlay: it is down, or there is no path to \
                 it, or a firewall on it drops everything, or this is not its address and the membership is wrong"
            );
            (FindingKind::PeerDown, cause)
        };
        return Some(Finding::new(kind, name, cause, command!("ip route get {0}; ping {0}", address)));
    }
    if !silent.is_empty() && seen.overlay.iter().all(|(to, answers)| *answers || peer.is_plain(*to)) {
        let cause = format!(
            "{name} answers at {address}, but not by the plain route to its pods ({silent}): podwired does not run on {name}, or \
             {name} drops plain packets from here: `overlay` differs between the nodes, or they come in by another device there"
        );
        let fix = command!("on {}: podwired status   # the mode, and the guard plain-sources; podwired doctor", name);
        return Some(Finding::new(FindingKind::PeerPlainSilent, name, cause, fix));
    }
    if !silent.is_empty() {
        let underlay = if seen.underlay { format!("{name} answers at {address}, but ") } else { format!("{name} ") };
        let verb = if seen.underlay { "not over the overlay" } else { "does not answer over the overlay" };
        let cause = format!(
            "{underlay}{verb} ({silent}): podwired does not run on {name}, or UDP port {port} is blocked on the path, or {name} \
             does not have this node in its membership"
        );
        let fix = command!(
            "on {}: podwired status; iptables -I INPUT -p udp --dport {} -j ACCEPT   # and in the cloud's firewall",
            name,
            port
        );
        return Some(Finding::new(FindingKind::PeerOverlaySilent, name, cause, fix));
    }
    if seen.deaf.is_empty() || seen.large.values().any(|answers| !answers) {
        return None;
    }
    let deaf: Vec<_> = seen.deaf.iter().map(ToString::to_string).collect();
    let cause = format!(
        "{name} answers echoes over the overlay, but neither TCP nor UDP ({}): a network card writes wrong checksums into \
         tunnelled packets, or a firewall on {name} drops what comes by {}",
        deaf.join(", "),
        defaults::OVERLAY_DEVICE
    );
    let fix = command!("on both nodes: ethtool -K {} tx-checksum-ip-generic off", defaults::OVERLAY_DEVICE);
    Some(Finding::new(FindingKind::WrongChecksums, name, cause, fix))
}

/// Paths that take packets of so many bytes at most, and lose larger ones or fragment them.
fn too_narrow(peers: &[(&ExaminedPeer, &Seen)], path: usize, lost: bool, here: Here<'_>) -> Finding {
    let Sizes { overlay, underlay } = here.sizes;
    let whom = match peers {
        [(ExaminedPeer { name, address, .. }, _)] => format!("{name} ({address})"),
        _ => format!("{} nodes ({})", peers.len(), names(peers)),
    };
    let cause = if lost {
        let addresses = match peers {
            [(_, seen)] => format!(" ({})", listed(&seen.large)),
            _ => String::new(),
        };
        format!(
            "the path to {whom} takes packets of {path} bytes at most, and the overlay needs {underlay}: of the overlay's packets \
             small ones arrive, and those of {overlay} bytes are lost{addresses}"
        )
    } else {
        format!(
            "the path to {whom} takes packets of {path} bytes at most, although the MTU here is {underlay}: large packets of the \
             overlay are fragmented on the path"
        )
    };
    let fix = command!("on every node: ip link set dev {} mtu {}   # or raise it on the path", here.interface, path);
    let kind = if lost { FindingKind::LargePacketsLost } else { FindingKind::LargePacketsFragmented };
    let subject = match peers {
        [(peer, _)] => Some(peer.name.clone()),
        _ => None,
    };
    Finding { subject, ..Finding::general(kind, cause, fix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Here<'_> = Here { sizes: Sizes { overlay: 1450, underlay: 1500 }, port: 8472, interface: "eth0" };

    fn peer(number: u8) -> ExaminedPeer {
        ExaminedPeer {
            name: format!("node-{number}"),
            address: [192, 168, 50, number].into(),
            pod_cidrs: Vec::new(),
            plain: Vec::new(),
        }
    }

    fn seen(underlay: bool, overlay: [bool; 2], large: &[bool], path: Option<usize>) -> Seen {
        let addresses = ["10.244.2.0", "fd00:10:244:2::"].map(|text| text.parse().unwrap());
        Seen {
            underlay,
            overlay: addresses.into_iter().zip(overlay).collect(),
            large: addresses.into_iter().zip(large.iter().copied()).collect(),
            path,
            ..Seen::default()
        }
    }

    /// The only finding for one peer among others that answer.
    fn only(one: &Seen) -> Option<(FindingKind, String, String)> {
        let healthy = seen(true, [true, true], &[true, true], Some(1500));
        let mut found = judge(&[peer(2), peer(3)], &[one.clone(), healthy], HERE);
        assert!(found.len() < 2, "{found:?}");
        found.pop().map(|Finding { kind, cause, fix, .. }| (kind, cause, fix))
    }

    #[test]
    fn the_cause_follows_from_what_gets_through_and_what_does_not() {
        assert_eq!(only(&seen(true, [true, true], &[true, true], Some(1500))), None);
        // A node that answers no ping on the underlay may still be reached by the overlay.
        assert_eq!(only(&seen(false, [true, true], &[true, true], None)), None);
        let down = seen(false, [false, false], &[], None);
        assert_eq!(only(&down).unwrap().0, FindingKind::PeerDown);
        let unrouted = only(&Seen { unrouted: true, ..down.clone() }).unwrap();
        assert_eq!(unrouted.0, FindingKind::NoRouteToPeer);
        assert_eq!(unrouted.1, "this node has no route to node-2 at 192.168.50.2");
        let silent = seen(true, [false, false], &[], Some(1500));
        let (_, cause, fix) = only(&silent).unwrap();
        let start = "node-2 answers at 192.168.50.2, but not over the overlay (10.244.2.0, fd00:10:244:2::): podwired does not \
                     run on node-2, or UDP port 8472 is blocked";
        assert!(cause.starts_with(start) && fix.starts_with("on node-2: podwired status"), "{cause}: {fix}");
        assert_eq!(only(&seen(true, [true, false], &[true], Some(1500))).unwrap().0, FindingKind::PeerOverlaySilent);
        let astray = Seen { astray: Some([10, 244, 2, 0].into()), ..silent };
        let astray = only(&astray).unwrap();
        assert_eq!(astray.0, FindingKind::OverlayBypassed);
        assert_eq!(astray.1, "packets to node-2 over the overlay (10.244.2.0) do not leave by podwire.1");
        let (kind, cause, fix) = only(&seen(true, [true, true], &[false, true], Some(1400))).unwrap();
        assert_eq!(kind, FindingKind::LargePacketsLost);
        assert!(
            cause.starts_with("the path to node-2 (192.168.50.2) takes packets of 1400 bytes at most, and"),
            "{cause}"
        );
        assert!(cause.ends_with("those of 1450 bytes are lost (10.244.2.0)"), "{cause}");
        assert!(fix.starts_with("on every node: ip link set dev eth0 mtu 1400"), "{fix}");
        let (kind, cause, _) = only(&seen(true, [true, true], &[true, true], Some(1492))).unwrap();
        assert!(
            kind == FindingKind::LargePacketsFragmented && cause.ends_with("are fragmented on the path"),
            "{cause}"
        );
    }

    #[test]
    fn a_cause_that_silences_all_peers_or_narrows_many_is_reported_once() {
        let peers: Vec<_> = (2..=6).map(peer).collect();
        let all = |seen: Seen| judge(&peers, &vec![seen; 5], HERE);
        let [cut] = all(seen(false, [false, false], &[], None)).try_into().unwrap();
        let start = "no peer answers (5 tried: node-2, node-3, node-4 and 2 more): this node is cut off";
        assert!(cut.kind == FindingKind::NodeCutOff && cut.cause.starts_with(start), "{cut:?}");
        let unrouted = all(Seen { unrouted: true, ..seen(false, [false, false], &[], None) });
        assert_eq!(unrouted[0].kind, FindingKind::NoRouteToPeer);
        assert!(unrouted[0].cause.ends_with("this node has no route to them"), "{unrouted:?}");
        let [blocked] = all(seen(true, [false, false], &[], Some(1500))).try_into().unwrap();
        assert!(
            blocked.kind == FindingKind::OverlayPortBlocked
                && blocked.cause.contains("UDP port 8472 is blocked on this node"),
            "{blocked:?}"
        );
        assert!(blocked.fix.starts_with("here: iptables -I INPUT -p udp --dport 8472 -j ACCEPT"), "{blocked:?}");
        let [narrow] = all(seen(true, [true, true], &[false, false], Some(1400))).try_into().unwrap();
        assert!(
            narrow.cause.starts_with("the path to 5 nodes (node-2, node-3, node-4 and 2 more) takes"),
            "{narrow:?}"
        );
        // With one peer only there is no telling which side it is.
        let one = judge(&peers[..1], &[seen(true, [false, false], &[], Some(1500))], HERE);
        assert!(one[0].cause.starts_with("node-2 answers at 192.168.50.2, but not over the overlay"), "{one:?}");
    }
}
