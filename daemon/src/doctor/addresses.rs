//! Conflicts of addresses: this node's own address, the entries of the membership, and foreign addresses and routes in
//! the pods' ranges.

use std::collections::BTreeMap;
use std::net::IpAddr;

use podwire_conf::defaults;
use podwire_kernel::address::{self, Address};
use podwire_kernel::link::{self, Link};
use podwire_kernel::route::{self, Route, Target};
use podwire_kernel::{Result, Socket, family};

use super::examined::{Cluster, Examined, Rejected, Source};
use super::finding::{Finding, FindingKind};
use super::fix::{Fix, command};
use crate::report::problem::ProblemKind;

/// `RTPROT_KERNEL` (uapi/linux/rtnetlink.h): routes that come with an address.
const BY_ADDRESS: u8 = 2;

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let mut findings: Vec<_> = node.rejected.iter().map(|rejected| membership(rejected, &node.source)).collect();
    let Some(cluster) = &node.cluster else { return Ok(findings) };
    let links: BTreeMap<u32, Link> = link::list(socket)?.into_iter().map(|link| (link.index, link)).collect();
    let addresses = address::list(socket, None)?;
    findings.extend(own(cluster, &node.source, &addresses, &links));
    findings.extend(foreign(cluster, &addresses, &route::list_all_tables(socket)?, &links));
    Ok(findings)
}

fn membership(rejected: &Rejected, source: &Source) -> Finding {
    let Rejected { kind, node, why } = rejected;
    let (kind, cause) = match kind {
        ProblemKind::ClusterRangeRejected => {
            (FindingKind::ClusterRangeRejected, format!("the cluster's ranges are rejected: {why}"))
        }
        ProblemKind::NotInMembership => (FindingKind::NotInMembership, format!("this node, {node}, {why}")),
        _ => (FindingKind::EntryRejected, format!("the entry of node {node} is wrong: {why}")),
    };
    let fix = match (source, kind) {
        (Source::File(path), _) => {
            let what = match kind {
                FindingKind::ClusterRangeRejected => "correct the cluster's ranges".into(),
                FindingKind::NotInMembership => {
                    command!("add an entry for {}; or start podwired with the name that is listed (--node-name)", node)
                }
                _ => command!("correct the entry of node {}", node),
            };
            command!("$EDITOR {}   # {}", path, what)
        }
        (_, FindingKind::ClusterRangeRejected) => "correct `cluster_cidrs` in the settings file of every node".into(),
        (_, FindingKind::NotInMembership) => {
            command!(
                "kubectl get node {}   # kubelet makes it; or podwired is started by another name (--node-name)",
                node
            )
        }
        _ => command!("kubectl get node {} -o yaml   # correct its address and its pod CIDRs", node),
    };
    let finding = Finding::general(kind, cause, fix);
    Finding { subject: Some(node.clone()).filter(|node| !node.is_empty()), ..finding }
}

/// This node's own address is on one of its interfaces.
fn own(cluster: &Cluster, source: &Source, addresses: &[Address], links: &BTreeMap<u32, Link>) -> Option<Finding> {
    if addresses.iter().any(|found| found.address.ip() == cluster.address) {
        return None;
    }
    let reserved = |address: IpAddr| family::reserved().any(|reserved| reserved.contains(address));
    let there = addresses.iter().filter(|found| {
        let device = links.get(&found.device).map(|link| link.name.as_str());
        !reserved(found.address.ip()) && device != Some(defaults::OVERLAY_DEVICE)
    });
    let there: Vec<_> = there.take(5).map(|found| found.address.ip().to_string()).collect();
    let there = if there.is_empty() { "it has none".into() } else { format!("it has {}", there.join(", ")) };
    let (node, address) = (&cluster.node, cluster.address);
    let cause = format!(
        "the membership says that node {node} has address {address}, which is on none of its interfaces: {there}"
    );
    let source = match source {
        Source::File(path) => command!(" (file {})", path),
        Source::Kubernetes => " (kubernetes)".into(),
        Source::Unknown => Fix::from(""),
    };
    let fix = command!(
        "correct the address of {} in the membership{}, or: ip address add {} dev INTERFACE",
        node,
        source,
        family::host(address)
    );
    Some(Finding::new(FindingKind::NodeAddressMissing, address.to_string(), cause, fix))
}

/// Foreign addresses and routes in the ranges of pods: packets for pods go there.
fn foreign(cluster: &Cluster, addresses: &[Address], routes: &[Route], links: &BTreeMap<u32, Link>) -> Vec<Finding> {
    let name = |device: u32| links.get(&device).map_or_else(|| format!("number {device}"), |link| link.name.clone());
    let range = |prefix| cluster.cluster_cidrs.iter().find(|cidr| family::contains(**cidr, prefix));
    let own = cluster.pod_cidrs.iter();
    let whose = |prefix: ipnetwork::IpNetwork| {
        let owner = cluster.peers.iter().find(|peer| peer.pod_cidrs.iter().any(|cidr| family::overlap(*cidr, prefix)));
        match owner {
            _ if own.clone().any(|cidr| family::overlap(*cidr, prefix)) => " of this node".to_owned(),
            Some(peer) => format!(" of node {}", peer.name),
            None => String::new(),
        }
    };
    let mut findings = Vec::new();
    for found in addresses {
        let (device, prefix) = (name(found.device), family::host(found.address.ip()));
        let as_node = cluster.pod_cidrs.iter().any(|cidr| cidr.network() == found.address.ip());
        let ours = as_node || device == defaults::OVERLAY_DEVICE;
        let Some(range) = range(prefix).filter(|_| !ours) else { continue };
        let cause = format!(
            "device {device} has address {}, which is in the pods' range {range}{}",
            found.address,
            whose(prefix)
        );
        let fix = command!("ip address delete {} dev {}", found.address, device);
        findings.push(Finding::new(FindingKind::ForeignAddress, found.address.to_string(), cause, fix));
    }
    for found in routes {
        let ours = [defaults::OVERLAY_PROTOCOL, defaults::POD_PROTOCOL].contains(&found.protocol);
        let device = match found.target {
            Target::Device(device) | Target::Gateway { device, .. } => Some(name(device)),
            _ => None,
        };
        // What comes with an address goes with it, and is named there.
        let of_address = found.protocol == BY_ADDRESS;
        let Some(range) = range(found.destination).filter(|_| !ours && !of_address) else { continue };
        let to = device.map(|device| format!(" by {device}")).unwrap_or_default();
        let destination = found.destination;
        let version = if destination.is_ipv4() { "-4" } else { "-6" };
        let cause = format!(
            "a route to {destination}{to} leads packets away that are for pods of {range}{}",
            whose(destination)
        );
        let fix = command!("ip {} route delete {} proto {}", version, destination, found.protocol);
        findings.push(Finding::new(FindingKind::ForeignRoute, destination.to_string(), cause, fix));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(device: u32, text: &str) -> Address {
        Address { device, address: text.parse().unwrap() }
    }

    #[test]
    fn an_address_that_no_interface_has_is_named_with_the_existing_ones() {
        let links = BTreeMap::new();
        let has = [address(1, "127.0.0.1/8"), address(2, "10.0.2.15/24"), address(2, "fe80::1/64")];
        let found = own(&Cluster::example(), &Source::File("/nodes".into()), &has, &links).unwrap();
        assert!(
            found.cause.ends_with("has address 192.168.50.1, which is on none of its interfaces: it has 10.0.2.15"),
            "{}",
            found.cause
        );
        assert_eq!(own(&Cluster::example(), &Source::Unknown, &[address(2, "192.168.50.1/24")], &links), None);
    }

    #[test]
    fn foreign_addresses_and_routes_in_the_pod_ranges_are_found_and_ours_and_wider_ones_are_not() {
        let route = |text: &str, protocol| Route {
            destination: text.parse().unwrap(),
            metric: 0,
            target: Target::Device(3),
            protocol,
        };
        let routes = [
            route("10.244.1.0/24", 2),
            route("10.244.2.0/25", 4),
            route("10.244.2.0/24", 112),
            route("10.244.1.7/32", 113),
            route("10.0.0.0/8", 4),
            route("0.0.0.0/0", 4),
        ];
        let found = foreign(
            &Cluster::example(),
            &[address(3, "10.244.1.1/24"), address(2, "10.0.0.1/8")],
            &routes,
            &BTreeMap::new(),
        );
        let fixes: Vec<_> = found.iter().map(|finding| finding.fix.as_str()).collect();
        let wanted = ["ip address delete 10.244.1.1/24 dev 'number 3'", "ip -4 route delete 10.244.2.0/25 proto 4"];
        assert_eq!(fixes, wanted);
        assert!(found[0].cause.ends_with("the pods' range 10.244.0.0/16 of this node"), "{}", found[0].cause);
        assert!(found[1].cause.ends_with("of 10.244.0.0/16 of node node-2"), "{}", found[1].cause);
    }

    #[test]
    fn a_rejected_entry_is_corrected_where_it_is_written() {
        let entry = |kind, why: &str| Rejected { kind, node: "a".into(), why: why.into() };
        let (file, kubernetes) = (Source::File("/etc/nodes.toml".into()), Source::Kubernetes);
        let wrong = entry(ProblemKind::EntryRejected, "no");
        let found = membership(&wrong, &file);
        assert_eq!((found.kind, found.subject.as_deref()), (FindingKind::EntryRejected, Some("a")));
        assert_eq!(found.cause, "the entry of node a is wrong: no");
        assert_eq!(found.fix, "$EDITOR /etc/nodes.toml   # correct the entry of node a");
        assert!(membership(&wrong, &kubernetes).fix.starts_with("kubectl get node a "));
        let missing = entry(ProblemKind::NotInMembership, "is not in the membership, which lists b");
        let found = membership(&missing, &file);
        assert_eq!(found.kind, FindingKind::NotInMembership);
        assert_eq!(found.cause, "this node, a, is not in the membership, which lists b");
        assert!(found.fix.contains("add an entry for a"), "{}", found.fix);
        let range = Rejected { kind: ProblemKind::ClusterRangeRejected, node: String::new(), why: "no".into() };
        let found = membership(&range, &kubernetes);
        assert_eq!((found.kind, found.subject), (FindingKind::ClusterRangeRejected, None));
    }
}
