//! `podwired doctor`: what keeps pods from talking, each finding with its cause and the command that mends it.
//!
//! It looks at the node itself and asks the peers; the daemon is asked for nothing but who the nodes are. Each kind of
//! cause is a file; what is found is judged there by pure functions. Nothing is changed.

mod addresses;
mod conflict;
mod conflists;
mod devices;
mod diagnosis;
mod forward_policy;
mod leftovers;
mod limits;
mod plugin_directory;
mod reachability;
mod sysctls;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use podwire_conf::defaults;
use podwire_kernel::Socket;
use serde::{Deserialize, Serialize};

use crate::args;
use crate::cluster::membership::Membership;
use crate::cluster::settings::Overlay;
use crate::cluster::view::View;
use crate::observe::status::table::Paint;
use crate::observe::status::{KEPT, Refused, Status, client};
use crate::sources::settings_file;

/// Findings of one kind that are listed; the others are counted.
const LISTED: usize = 10;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kind of cause it is; the names are stable.
    pub check: String,
    /// The cause, one sentence.
    pub cause: String,
    /// What mends it: a command.
    pub fix: String,
}

impl Finding {
    fn new(check: &str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.into(), cause: cause.into(), fix: fix.into() }
    }
}

/// What is to be examined.
struct Node {
    /// The cluster as this node believes it, where anybody knows.
    cluster: Option<Cluster>,
    /// The UDP port of the overlay.
    port: u16,
    /// The directory of the conflist.
    conflists: PathBuf,
    /// Where the membership is written, for humans.
    source: String,
    /// Entries of it that are not believed.
    refused: Vec<Refused>,
    /// What the daemon has said, where it has been asked.
    status: Option<Status>,
}

/// The cluster as this node believes it.
struct Cluster {
    node: String,
    address: IpAddr,
    pod_cidrs: Vec<IpNetwork>,
    cluster_cidrs: Vec<IpNetwork>,
    peers: Vec<Peer>,
    /// Whether there is to be an overlay at all.
    has_overlay: bool,
}

/// Another node.
#[derive(Debug, Clone)]
struct Peer {
    name: String,
    address: IpAddr,
    pod_cidrs: Vec<IpNetwork>,
}

impl Cluster {
    fn has_family(&self, ipv4: bool) -> bool {
        self.cluster_cidrs.iter().any(|cidr| cidr.is_ipv4() == ipv4)
    }

    /// Two nodes, of which this is the first.
    #[cfg(test)]
    fn example() -> Self {
        Self {
            has_overlay: true,
            node: "node-1".into(),
            address: [192, 168, 50, 1].into(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            peers: vec![Peer {
                name: "node-2".into(),
                address: [192, 168, 50, 2].into(),
                pod_cidrs: vec!["10.244.2.0/24".parse().unwrap()],
            }],
        }
    }
}

/// Examines the node.
///
/// # Errors
/// When the files that the command line names cannot be read.
pub fn examine(arguments: &args::Doctor) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    let node = introduce(arguments, &mut findings)?;
    let mut enter = |found: Result<Vec<Finding>, String>| match found {
        Ok(found) => findings.extend(found),
        Err(why) => findings.push(Finding::new(
            "doctor",
            why,
            "run `podwired doctor` as root, with CAP_NET_ADMIN and CAP_NET_RAW",
        )),
    };
    let said = |error: podwire_kernel::Error| error.to_string();
    match Socket::route().map_err(said) {
        Err(why) => enter(Err(why)),
        Ok(mut socket) => {
            enter(addresses::look(&node, &mut socket).map_err(said));
            enter(devices::look(&node, &mut socket).map_err(said));
            enter(sysctls::look(&node, &mut socket).map_err(said));
            enter(leftovers::look(&node, &mut socket));
            enter(limits::look(&node, &mut socket).map_err(said));
            if let Some(cluster) = &node.cluster {
                enter(reachability::look(cluster, node.port, &mut socket));
            }
        }
    }
    enter(Socket::netfilter().and_then(|mut socket| forward_policy::look(&node, &mut socket)).map_err(said));
    enter(conflists::look(&node));
    enter(Ok(node.status.as_ref().and_then(conflict::look).into_iter().collect()));
    Ok(shortened(causes(findings)))
}

/// Without those that come from another one: whoever mends that has mended them.
fn causes(mut findings: Vec<Finding>) -> Vec<Finding> {
    let has = |check: &str| findings.iter().any(|finding| finding.check == check);
    // What the daemon has not made yet, or is kept from; and what it says of what is told with more detail.
    let unmade = has("daemon");
    let way = has("overlap") || has("vxlan-port") || has("unrest") || unmade;
    let no_directory = findings.iter().any(|finding| finding.cause.contains(conflists::NO_DIRECTORY));
    let told = [
        (has("vxlan-port"), "Address already in use"),
        (has("overlap"), "it is somebody else's, and is not replaced"),
        (no_directory, defaults::CONFLIST),
    ];
    findings.retain(|Finding { check, cause, .. }| match check.as_str() {
        "daemon" => !told.iter().any(|(is_told, words)| *is_told && cause.contains(words)),
        "forwarding" => !unmade,
        "overlay" => !way,
        _ => true,
    });
    findings
}

/// Who the nodes are: said by the daemon, or by the files that the command line names.
fn introduce(arguments: &args::Doctor, findings: &mut Vec<Finding>) -> Result<Node, String> {
    let conflists = arguments.conflist_directory.clone();
    if let (Some(file), Some(name)) = (&arguments.nodes, &arguments.node_name) {
        let failed = |why: String| format!("membership file {}: {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        let membership = Membership::parse(&text).map_err(|error| failed(error.to_string()))?;
        let settings = settings_file::read(arguments.settings.as_deref()).map_err(|error| error.to_string())?;
        let (cluster, refused) = match View::new(&membership, name) {
            Ok(view) => {
                let refused = view.refused.clone();
                (Some(of_view(name, view, settings.overlay)), refused)
            }
            Err(own) => (None, vec![own]),
        };
        let refused = refused.into_iter().map(|one| Refused { node: one.node, why: one.why }).collect();
        let source = file.display().to_string();
        return Ok(Node { cluster, port: settings.port, conflists, source, refused, status: None });
    }
    match client::ask() {
        Ok(status) => {
            for unread in status.wrong.iter().filter(|sentence| sentence.ends_with(KEPT)) {
                let fix = match status.membership.source.strip_prefix("file ") {
                    Some(path) => format!("$EDITOR {path}   # podwired reads it again by itself"),
                    None => "kubectl get --raw /readyz   # podwired asks again by itself".into(),
                };
                findings.push(Finding::new("membership", unread, fix));
            }
            if !status.converged {
                // The membership, the peers and the pods are looked at below, with more to say.
                let looked_at = ["membership: ", "peer ", "the way to ", "pod ", "within the last minute "];
                let of_passes = status.wrong.iter().filter(|sentence| {
                    !sentence.ends_with(KEPT) && !looked_at.iter().any(|start| sentence.starts_with(start))
                });
                let fix =
                    "put right what the sentence names: podwired tries again by itself, `podwired status` shows when";
                findings.extend(of_passes.map(|why| Finding::new("daemon", why, fix)));
            }
            Ok(of_status(status, arguments))
        }
        Err(why) => {
            let fix = "systemctl restart podwired; journalctl -u podwired -n 50   # with --nodes FILE --node-name NAME the \
                       doctor looks at the peers meanwhile";
            findings.push(Finding::new("daemon", why, fix));
            let (source, refused) = (String::new(), Vec::new());
            Ok(Node { cluster: None, port: defaults::OVERLAY_PORT, conflists, source, refused, status: None })
        }
    }
}

fn of_view(name: &str, view: View, overlay: Overlay) -> Cluster {
    let peer = |(name, peer): (String, crate::cluster::view::Peer)| Peer {
        name,
        address: peer.address,
        pod_cidrs: peer.pod_cidrs,
    };
    Cluster {
        node: name.into(),
        address: view.own.address,
        pod_cidrs: view.own.pod_cidrs,
        cluster_cidrs: view.cluster_cidrs,
        peers: view.peers.into_iter().map(peer).collect(),
        has_overlay: overlay != Overlay::Never,
    }
}

fn of_status(status: Status, arguments: &args::Doctor) -> Node {
    let said = status.clone();
    let peer =
        |peer: crate::observe::status::Peer| Peer { name: peer.name, address: peer.address, pod_cidrs: peer.pod_cidrs };
    let conflists = PathBuf::from(&status.conflist).parent().map(PathBuf::from);
    let cluster = status.address.map(|address| Cluster {
        node: status.node,
        address,
        pod_cidrs: status.pod_cidrs,
        cluster_cidrs: status.cluster_cidrs,
        peers: status.peers.into_iter().map(peer).collect(),
        has_overlay: status.mode != Overlay::Never.to_string(),
    });
    Node {
        cluster,
        port: status.port,
        conflists: conflists.unwrap_or_else(|| arguments.conflist_directory.clone()),
        source: status.membership.source,
        refused: status.refused,
        status: Some(said),
    }
}

/// The first findings of each kind, and how many more there were.
fn shortened(findings: Vec<Finding>) -> Vec<Finding> {
    let mut short: Vec<Finding> = Vec::new();
    let mut more: Vec<(String, usize)> = Vec::new();
    for finding in findings {
        if short.iter().filter(|other| other.check == finding.check).count() < LISTED {
            short.push(finding);
            continue;
        }
        match more.iter_mut().find(|(check, _)| *check == finding.check) {
            Some((_, count)) => *count += 1,
            None => more.push((finding.check, 1)),
        }
    }
    short.extend(more.into_iter().map(|(check, count)| {
        Finding::new(
            &check,
            format!("{count} more findings of this kind"),
            "mend those above, then run `podwired doctor` again",
        )
    }));
    short
}

/// The findings as a human reads them. Pure.
pub fn render(findings: &[Finding], paint: Paint) -> String {
    if findings.is_empty() {
        return format!("{}  nothing found\n", paint.good("well"));
    }
    let one = |finding: &Finding| {
        format!("{}  {}\n    mend it: {}\n", paint.bad(&finding.check), finding.cause, paint.head(&finding.fix))
    };
    findings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_another_finding_is_not_told() {
        let checks = |given: &[(&str, &str)]| {
            let findings = given.iter().map(|(check, cause)| Finding::new(check, *cause, "")).collect();
            causes(findings).into_iter().map(|finding| finding.check).collect::<Vec<_>>()
        };
        assert_eq!(checks(&[("daemon", "it has ended"), ("forwarding", ""), ("overlay", "")]), ["daemon"]);
        assert_eq!(checks(&[("daemon", "bring up: Address already in use (98)"), ("vxlan-port", "")]), ["vxlan-port"]);
        let route = "add route: it is somebody else's, and is not replaced; remove it";
        assert_eq!(checks(&[("daemon", route), ("overlap", ""), ("overlay", "")]), ["overlap"]);
        let (write, other) =
            ("write /a/10-podwire.conflist: no", ("conflist", "05-a sorts before 10-podwire.conflist"));
        assert_eq!(checks(&[("daemon", write), ("conflist", "/a is not a directory: so")]), ["conflist"]);
        assert_eq!(checks(&[("daemon", write), other]), ["daemon", "conflist"]);
        assert_eq!(checks(&[("forwarding", ""), ("overlay", ""), ("peer", "")]), ["forwarding", "overlay", "peer"]);
    }

    #[test]
    fn of_many_findings_of_a_kind_the_first_are_listed_and_the_others_counted() {
        let findings: Vec<_> = (0..25).map(|number| Finding::new("peer", number.to_string(), "x")).collect();
        let short = shortened([findings, vec![Finding::new("other", "o", "y")]].concat());
        assert_eq!(short.len(), 12);
        assert_eq!((short[9].cause.as_str(), short[10].check.as_str()), ("9", "other"));
        assert_eq!(short[11].cause, "15 more findings of this kind");
        let text = render(&short, Paint(false));
        assert!(text.starts_with("peer  0\n    mend it: x\n"), "{text}");
        assert_eq!(render(&[], Paint(false)), "well  nothing found\n");
    }
}
