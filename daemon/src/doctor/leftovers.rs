//! Leftovers: attachments whose device is gone or whose addresses are stale, devices that no ledger knows, ledgers of another
//! boot, routes and nexthops of podwire's that no membership explains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_attachment::ledger::Ledger;
use podwire_attachment::names;
use podwire_attachment::names::Attachment;
use podwire_conf::defaults;
use podwire_kernel::nexthop::{self, Nexthop};
use podwire_kernel::route::{self, Route};
use podwire_kernel::{Socket, family, link};
use serde_json::json;

use super::error::{Error, Result};
use super::examined::{Cluster, Examined, Source};
use super::finding::{Finding, FindingKind};
use super::fix::{Fix, command};
use super::plugin_directory;
use crate::node::stale_addresses::{self, StalePod};

/// Pods and peers come and go meanwhile: what is left over is so after this pause, too. A pod has a record and no device for
/// some milliseconds, and a full sync of thousands of peers takes some hundred.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let first = once(node, socket)?;
    if first.is_empty() {
        return Ok(first);
    }
    thread::sleep(PAUSE);
    let second = once(node, socket)?;
    Ok(first.into_iter().filter(|finding| second.contains(finding)).collect())
}

fn once(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let state = Path::new(defaults::RUN_DIRECTORY);
    // Devices first: a record is there before its device, and a device goes before its record.
    let devices: BTreeSet<_> = link::list(socket)?.into_iter().map(|link| link.name).collect();
    let mut findings = Vec::new();
    let mut attachments = Vec::new();
    for network in Ledger::networks(state).map_err(Error::Ledger)? {
        match Ledger::of_this_boot(state, &network).map_err(Error::Ledger)? {
            None => {
                let cause = format!("the ledger of network {network} is of another boot, whose pods are all dead");
                let fix = command!("rm -r {}", state.join(&network));
                findings.push(Finding::new(FindingKind::LedgerOfOtherBoot, &network, cause, fix));
            }
            Some(ledger) => {
                let (records, _) = ledger.records().map_err(Error::Ledger)?;
                if let Some(cluster) = node.cluster.as_ref().filter(|_| network == defaults::NETWORK) {
                    let found = |pod: StalePod| {
                        let fix = replace_pod(&pod, cluster.address, node.source == Source::Kubernetes);
                        Finding::new(FindingKind::StaleAddress, &pod.container, pod.sentence(), fix)
                    };
                    findings.extend(stale_addresses::of(&records, &cluster.pod_cidrs).into_iter().map(found));
                }
                attachments.extend(records.into_iter().map(|record| record.attachment));
            }
        }
    }
    findings.extend(pods(&attachments, &devices, &plugin_directory::of(node.status.as_ref())));
    if let Some(cluster) = &node.cluster {
        let routes = route::list(socket, defaults::OVERLAY_PROTOCOL)?;
        let (nexthops, _) = nexthop::list(socket, defaults::OVERLAY_PROTOCOL)?;
        findings.extend(overlay(cluster, &routes, &nexthops));
    }
    Ok(findings)
}

/// The command that makes a pod anew. Kubernetes knows it by its address of the family of its node's.
fn replace_pod(pod: &StalePod, node: IpAddr, in_kubernetes: bool) -> Fix {
    let of_family = pod.addresses.iter().find(|address| address.is_ipv4() == node.is_ipv4());
    match of_family.or(pod.addresses.first()) {
        Some(address) if in_kubernetes => {
            command!("kubectl delete pods --all-namespaces --field-selector status.podIP={}", address)
        }
        _ => command!("podman restart {}   # or with the program that started it", pod.container),
    }
}

/// Attachments without a device, and devices without an attachment. `plugins` is the directory of the plugin.
fn pods(attachments: &[Attachment], devices: &BTreeSet<String>, plugins: &Path) -> Vec<Finding> {
    let known: BTreeMap<_, _> = attachments.iter().map(|it| (names::host_device(it), it)).collect();
    let dead = known.iter().filter(|(device, _)| !devices.contains(*device)).map(|(device, attachment)| {
        let Attachment { network, container, interface } = attachment;
        let cause = format!(
            "interface {interface} of container {container} holds addresses of network {network}, but its device \
             {device} is gone"
        );
        let configuration = json!({"cniVersion": "1.0.0", "name": network, "type": defaults::PLUGIN}).to_string();
        let fix = command!(
            "printf %s {} | CNI_COMMAND=DEL CNI_CONTAINERID={} CNI_IFNAME={} CNI_PATH={} {}",
            configuration,
            container,
            interface,
            plugins,
            plugins.join(defaults::PLUGIN)
        );
        Finding::new(FindingKind::DeadAttachment, container, cause, fix)
    });
    let is_pods = |name: &&String| {
        // The whole of a name that podwire makes, not just its beginning, which a foreign device may have.
        name.strip_prefix(defaults::HOST_VETH_PREFIX)
            .is_some_and(|rest| rest.len() == 13 && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'v')))
    };
    let orphaned = devices.iter().filter(is_pods).filter(|name| !known.contains_key(*name)).map(|name| {
        let cause = format!("device {name} is named as a pod's, but no ledger knows of its pod");
        Finding::new(FindingKind::OrphanedDevice, name, cause, command!("ip link delete dev {}", name))
    });
    dead.chain(orphaned).collect()
}

/// Routes and nexthops with podwire's mark that lead to no node of the membership.
fn overlay(cluster: &Cluster, routes: &[Route], nexthops: &[Nexthop]) -> Vec<Finding> {
    let wanted: BTreeSet<IpNetwork> = cluster
        .peers
        .iter()
        .flat_map(|peer| &peer.pod_cidrs)
        .chain(&cluster.pod_cidrs)
        .chain(&cluster.cluster_cidrs)
        .copied()
        // Of pods, and no node's.
        .chain([family::host(defaults::GATEWAY4.into())])
        .collect();
    let peers: BTreeSet<IpAddr> = cluster.peers.iter().map(|peer| peer.address).collect();
    let protocol = defaults::OVERLAY_PROTOCOL;
    let routes = routes.iter().filter(|route| !wanted.contains(&route.destination)).map(|route| {
        let destination = route.destination;
        let version = if destination.is_ipv4() { "-4" } else { "-6" };
        let cause = format!("a route of podwire's leads to {destination}, which is no node's in the membership");
        let fix = command!("ip {} route delete {} proto {}", version, destination, protocol);
        Finding::new(FindingKind::LeftoverRoute, destination.to_string(), cause, fix)
    });
    // A plain one leads to the node itself.
    let destination = |nexthop: &Nexthop| nexthop.encap.map_or(nexthop.gateway, |encap| encap.destination);
    let nexthops = nexthops.iter().filter(|nexthop| !peers.contains(&destination(nexthop))).map(|nexthop| {
        let (id, destination) = (nexthop.id, destination(nexthop));
        let cause =
            format!("nexthop {id} of podwire's leads to {destination}, which is no node's address in the membership");
        Finding::new(FindingKind::LeftoverNexthop, id.to_string(), cause, command!("ip nexthop delete id {}", id))
    });
    routes.chain(nexthops).collect()
}

#[cfg(test)]
mod tests {
    use podwire_kernel::nexthop::Encap;
    use podwire_kernel::route::Target;

    use super::*;

    #[test]
    fn attachments_without_a_device_and_devices_without_an_attachment_are_found() {
        let attachment = |container: &str| Attachment {
            network: "podwire".into(),
            container: container.into(),
            interface: "eth0".into(),
        };
        let (alive, dead) = (attachment("alive"), attachment("dead"));
        let names = [
            names::host_device(&alive),
            names::host_device(&attachment("orphan")),
            "pwnd".into(),
            "pw0123456789xyz".into(),
        ];
        let found = pods(&[alive, dead], &names.clone().into(), Path::new("/usr/lib/cni"));
        let kinds: Vec<_> = found.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [FindingKind::DeadAttachment, FindingKind::OrphanedDevice], "{found:?}");
        assert!(found[0].cause.starts_with("interface eth0 of container dead holds addresses of network podwire"));
        let end = "CNI_CONTAINERID=dead CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni /usr/lib/cni/podwire";
        assert!(found[0].fix.ends_with(end), "{}", found[0].fix);
        assert_eq!(found[1].fix, format!("ip link delete dev {}", names[1]));
    }

    #[test]
    fn routes_and_nexthops_of_ours_that_no_membership_explains_are_found() {
        let cluster = Cluster::example();
        let route = |text: &str| Route {
            destination: text.parse().unwrap(),
            metric: 0,
            target: Target::Blackhole,
            protocol: 112,
        };
        let nexthop = |id, last| Nexthop {
            id,
            device: 1,
            gateway: std::net::Ipv6Addr::LOCALHOST.into(),
            encap: Some(Encap { vni: 1, source: [192, 168, 50, 1].into(), destination: [192, 168, 50, last].into() }),
            protocol: 112,
        };
        let routes = ["10.244.1.0/24", "10.244.2.0/24", "10.244.0.0/16", "10.244.3.0/24"].map(route);
        let found = overlay(&cluster, &routes, &[nexthop(11_200_001, 2), nexthop(11_200_002, 3)]);
        let fixes: Vec<_> = found.iter().map(|finding| finding.fix.as_str()).collect();
        assert_eq!(fixes, ["ip -4 route delete 10.244.3.0/24 proto 112", "ip nexthop delete id 11200002"]);
    }
}
