//! Who has sent what the guards have dropped lately: peers, from addresses that the membership does not list for them, and
//! senders that are no peer. And by which device plain packets of peers' pods have come, where that is the wrong one.
//!
//! Nodes do not hear of a change of the membership at one time: what was dropped before it, or in the seconds after it, is none
//! of these.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use podwire_conf::defaults::TABLE;
use podwire_conf::rules::node::dropped;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{self, Field, Set};
use podwire_kernel::{Result, Socket};

use super::examined::{Cluster, Examined, ExaminedPeer, Source};
use super::finding::{Finding, FindingKind};
use super::fix::command;

/// How long a node may take to hear of a change of the membership.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// What the kernel has recorded, and what it goes by.
#[derive(Debug, Default)]
struct Recorded {
    /// Senders that were no peer's address.
    strangers: BTreeSet<IpAddr>,
    /// Peers' addresses, and the sources that were not theirs.
    members: BTreeSet<(IpAddr, IpAddr)>,
    /// Peers' addresses, and each single address that they may send from.
    listed: BTreeSet<(IpAddr, IpAddr)>,
    /// Devices that are not those of the plain routes to these sources.
    astray: BTreeMap<String, BTreeSet<IpAddr>>,
}

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let Some(cluster) = &node.cluster else { return Ok(Vec::new()) };
    let underlay = IpVersion::of(cluster.address);
    let mut recorded = Recorded::default();
    let counts = |age: Duration| node.unchanged.is_none_or(|unchanged| age + SETTLED_AFTER <= unchanged);
    let mut seen = |set: Set| -> Result<Vec<Vec<Field>>> {
        let records = nft::recorded(socket, TABLE, &set)?.into_iter();
        Ok(records.filter(|record| counts(record.age)).map(|record| record.key).collect())
    };
    for version in IpVersion::BOTH {
        recorded.strangers.extend(seen(dropped::strangers(version))?.iter().filter_map(|key| single(key)));
        recorded.members.extend(seen(dropped::members(underlay, version))?.iter().filter_map(|key| pair(key)));
        for key in seen(dropped::astray(version))? {
            if let [Field::Address(source), Field::Device(device)] = key[..] {
                recorded.astray.entry(device.to_string()).or_default().insert(source);
            }
        }
    }
    for version in IpVersion::BOTH {
        let listed = nft::elements(socket, TABLE, &dropped::listed(underlay, version))?;
        recorded.listed.extend(listed.iter().filter_map(|element| pair(&element.key)));
    }
    Ok(judge(cluster, &node.source, &recorded))
}

fn single(key: &[Field]) -> Option<IpAddr> {
    if let [Field::Address(address)] = key { Some(*address) } else { None }
}

fn pair(key: &[Field]) -> Option<(IpAddr, IpAddr)> {
    let [Field::Address(first), Field::Address(second)] = key else { return None };
    Some((*first, *second))
}

/// The findings. Pure.
fn judge(cluster: &Cluster, source: &Source, recorded: &Recorded) -> Vec<Finding> {
    let peer = |address: IpAddr| cluster.peers.iter().find(|peer| peer.address == address);
    let unlisted = recorded.members.difference(&recorded.listed).filter_map(|(outer, inner)| {
        let sender = peer(*outer).filter(|peer| !peer.pod_cidrs.iter().any(|cidr| cidr.contains(*inner)))?;
        Some(unlisted(cluster, source, sender, *inner))
    });
    let is_stranger = |address: &&IpAddr| **address != cluster.address && peer(**address).is_none();
    let strangers = recorded.strangers.iter().filter(is_stranger).map(|address| {
        let owner = recorded.listed.iter().find(|(_, other)| other == address).and_then(|(outer, _)| peer(*outer));
        stranger(source, *address, owner)
    });
    let astray = recorded.astray.iter().filter_map(|(device, sources)| astray(cluster, device, sources));
    unlisted.chain(strangers).chain(astray).collect()
}

/// What has come by a device that the plain routes to its sources do not lead by; nothing where these are no peers' any more.
fn astray(cluster: &Cluster, device: &str, sources: &BTreeSet<IpAddr>) -> Option<Finding> {
    let owner =
        |source: &IpAddr| cluster.peers.iter().find(|peer| peer.pod_cidrs.iter().any(|cidr| cidr.contains(*source)));
    let mut owners: Vec<_> = sources.iter().filter_map(owner).collect();
    owners.dedup_by_key(|peer| peer.address);
    let ExaminedPeer { name, address, .. } = owners.first()?;
    let others = match owners.len() {
        1 => String::new(),
        owners => format!(" and {} other nodes", owners - 1),
    };
    let source = sources.iter().find(|source| owner(source).is_some_and(|peer| peer.address == *address))?;
    let cause = format!(
        "plain packets of pods of {name} ({address}){others} come in by {device}, as from {source}, and are dropped: the plain \
         route to them leads by another device, and {device} has no address in the subnet of {address}. Either this node \
         answers ARP for its address by {device} as well, or somebody on that link uses addresses of pods"
    );
    let fix = command!(
        "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2   # and the same in /etc/sysctl.d/; \
         tcpdump -eni {} src {}   # shows who sends it",
        device,
        source,
    );
    Some(Finding::new(FindingKind::PlainAstray, device, cause, fix))
}

fn unlisted(cluster: &Cluster, source: &Source, sender: &ExaminedPeer, inner: IpAddr) -> Finding {
    let ExaminedPeer { name, address, .. } = sender;
    // Nothing makes it an address of that node: it is a fault there, or an attack.
    let is_pods = cluster.cluster_cidrs.iter().any(|cidr| cidr.contains(inner));
    let is_anothers = inner == cluster.address || cluster.peers.iter().any(|peer| peer.address == inner);
    let (what, fix) = if is_pods || is_anothers {
        let what = if is_pods { "is in the pods' ranges and not that node's" } else { "is another node's" };
        (
            what,
            command!(
                "on {}: ip route get {}; ip address show to {}   # what sends from it",
                name,
                cluster.address,
                inner
            ),
        )
    } else {
        let fix = match source {
            Source::Kubernetes => command!(
                "kubectl get node {} -o jsonpath='{{.status.addresses}}'   # {} has to be there, as InternalIP or \
                 ExternalIP (kubelet --node-ip, cloud provider)",
                name,
                inner
            ),
            Source::File(path) => command!("$EDITOR {}   # add \"{}\" to `addresses` of node {}", path, inner, name),
            Source::Unknown => command!("add \"{}\" to `addresses` of node {} in the membership", inner, name),
        };
        ("is no address that the membership lists for it", fix)
    };
    let cause = format!(
        "{name} ({address}) has sent to pods of this node from {inner}, which {what}: such packets are dropped here"
    );
    Finding::new(FindingKind::SourceUnlisted, inner.to_string(), cause, fix)
}

fn stranger(source: &Source, address: IpAddr, owner: Option<&ExaminedPeer>) -> Finding {
    let (who, fix) = match (owner, source) {
        (Some(owner), _) => (
            format!(
                "another address of node {}, whose packets of the overlay have to come from {}",
                owner.name, owner.address
            ),
            command!(
                "on {}: ip route get THIS-NODE   # a rule, a route or NAT has it sent from {}",
                owner.name,
                address
            ),
        ),
        (None, Source::Kubernetes) => (
            "no member's address".into(),
            command!(
                "kubectl get nodes -o wide   # a node with {} has to have it as its first InternalIP; others may not send here",
                address
            ),
        ),
        (None, Source::File(path)) => (
            "no member's address".into(),
            command!(
                "$EDITOR {}   # if {} is to be a node: its entry, with this `address`. If not, keep it away",
                path,
                address
            ),
        ),
        (None, Source::Unknown) => (
            "no member's address".into(),
            command!(
                "if {} is to be a node: give it an entry of the membership, with this `address`. If not, keep it away",
                address
            ),
        ),
    };
    let cause =
        format!("{address} has sent to the VXLAN port of this node, or of a peer through it, and is {who}: dropped");
    Finding::new(FindingKind::SenderUnknown, address.to_string(), cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeSet<(IpAddr, IpAddr)> {
        pairs.iter().map(|(outer, inner)| (address(outer), address(inner))).collect()
    }

    #[test]
    fn a_source_is_named_with_its_node_unless_the_membership_has_it_by_now() {
        let recorded = Recorded {
            strangers: ["192.168.50.1", "192.168.50.2", "192.168.50.9", "10.9.9.3"].map(address).into(),
            members: pairs(&[
                ("192.168.50.2", "10.9.9.2"),
                ("192.168.50.2", "10.9.9.3"),
                ("192.168.50.2", "10.244.2.7"),
                ("192.168.50.2", "10.244.1.7"),
                ("192.168.50.7", "10.9.9.2"),
            ]),
            listed: pairs(&[("192.168.50.2", "10.9.9.3"), ("192.168.50.2", "192.168.50.2")]),
            astray: [("eth1", "10.244.2.7"), ("eth2", "10.244.9.9")]
                .map(|(device, source)| (device.to_owned(), [address(source)].into()))
                .into(),
        };
        let found = judge(&Cluster::example(), &Source::File("/nodes.toml".into()), &recorded);
        let about: Vec<_> =
            found.iter().map(|finding| (finding.kind, finding.subject.as_deref().unwrap_or_default())).collect();
        let wanted = [
            (FindingKind::SourceUnlisted, "10.9.9.2"),
            (FindingKind::SourceUnlisted, "10.244.1.7"),
            (FindingKind::SenderUnknown, "10.9.9.3"),
            (FindingKind::SenderUnknown, "192.168.50.9"),
            (FindingKind::PlainAstray, "eth1"),
        ];
        assert_eq!(about, wanted);
        let said = "node-2 (192.168.50.2) has sent to pods of this node from 10.9.9.2, which is no address that the membership \
                    lists for it: such packets are dropped here";
        assert_eq!(found[0].cause, said);
        assert_eq!(found[0].fix, "$EDITOR /nodes.toml   # add \"10.9.9.2\" to `addresses` of node node-2");
        assert!(found[1].cause.contains("is in the pods' ranges"), "{}", found[1].cause);
        assert!(found[2].cause.contains("another address of node node-2"), "{}", found[2].cause);
        assert!(found[3].cause.contains("no member's address"), "{}", found[3].cause);
    }
}
