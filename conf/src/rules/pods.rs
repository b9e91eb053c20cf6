//! The plugin's part of table `inet podwire`: translation for host ports and for networks with `ipMasq`.
//!
//! It does not depend on any configuration, so the plugin and the daemon, which write it concurrently, always write the
//! same; a pod has elements in its sets ([`crate::rules::host_ports`], [`crate::rules::masquerade`]). The daemon owns
//! other chains of the table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_kernel::family::{self, IpVersion};
use podwire_kernel::nft::{Base, Chain, ChainHook, ChainType, Content, PacketField, Rule, Set, Table, Type};

use crate::defaults;
use crate::rules::{host_ports, masquerade, services};

/// `NF_IP_PRI_RAW` (uapi/linux/netfilter_ipv4.h): before conntrack.
pub(crate) const RAW: i32 = -300;
/// Behind everybody's `NF_IP_PRI_NAT_DST` (-100): the first translation of a connection counts, so that Services come
/// before host ports whoever was there first (kube-proxy with iptables and nftables, docker, by hand).
const BEHIND_SERVICES: i32 = -90;
/// `NF_IP_PRI_NAT_SRC`.
pub(crate) const SOURCE_NAT: i32 = 100;

/// The chain in which host ports are looked up.
const HOST_PORTS: &str = "hostports";

/// The table, with the chains of some networks ([`masquerade::chain`]); those of other networks are not touched.
pub fn table(networks: Vec<Chain>) -> Table {
    let chains = [loopback_guard(), prerouting(), output(), host_ports(), postrouting()];
    Table {
        name: defaults::TABLE.into(),
        counters: Vec::new(),
        sets: IpVersion::BOTH.into_iter().flat_map(sets).collect(),
        chains: chains.into_iter().chain(networks).collect(),
    }
}

fn sets(version: IpVersion) -> [Set; 5] {
    use Type::{Address, Port, Protocol};
    let address = Address(version);
    let to_pod = || Content::Values(vec![address, Port]);
    [
        Set { name: host_ports::by_address(version), key: vec![Protocol, address, Port], content: to_pod() },
        Set { name: host_ports::any_address(version), key: vec![Protocol, Port], content: to_pod() },
        Set { name: host_ports::hairpin(version), key: vec![address, address], content: Content::Nothing },
        Set { name: masquerade::map(version), key: vec![address], content: Content::Verdicts },
        services::set(version),
    ]
}

/// 127.0.0.0/8 (RFC 1122, section 3.2.1.3).
fn loopback() -> IpNetwork {
    masquerade::prefix(Ipv4Addr::new(127, 0, 0, 0).into(), 8)
}

/// 127.0.0.0/8 is the node's own. A host port's translation would lead there whoever sends to 127.0.0.1, be it a
/// neighbour on the link or a peer; and a pod's veth accepts 127.0.0.1 (`route_localnet`), so that the node reaches host
/// ports at it. Every packet is compared here; few get past the first comparison.
fn loopback_guard() -> Chain {
    Chain {
        name: "loopback-guard".into(),
        base: Some(Base { chain_type: ChainType::Filter, hook: ChainHook::Prerouting, priority: RAW }),
        rules: vec![Rule::new().to(loopback()).not_by_loopback().drop()],
    }
}

fn prerouting() -> Chain {
    Chain {
        name: "hostport-prerouting".into(),
        base: Some(Base { chain_type: ChainType::Nat, hook: ChainHook::Prerouting, priority: BEHIND_SERVICES }),
        rules: vec![Rule::new().to_local().jump(HOST_PORTS)],
    }
}

/// ::1 is not translated: IPv6 has no `route_localnet`, a translated connection would never get a reply.
fn output() -> Chain {
    Chain {
        name: "hostport-output".into(),
        base: Some(Base { chain_type: ChainType::Nat, hook: ChainHook::Output, priority: BEHIND_SERVICES }),
        rules: vec![
            Rule::new().to(family::host(IpAddr::V6(Ipv6Addr::LOCALHOST))).return_(),
            Rule::new().to_local().jump(HOST_PORTS),
        ],
    }
}

/// A host port of one address comes before one of all addresses. The latter leaves out addresses that are there only for
/// Services: what answers there without a translation (IPVS, a DNS cache of the node) would lose its port.
fn host_ports() -> Chain {
    let rules = IpVersion::BOTH.into_iter().flat_map(|version| {
        let (by_address, any_address) = (host_ports::by_address(version), host_ports::any_address(version));
        let to = |map: &str, parts: &[PacketField]| Rule::new().of(version).dnat(version, map, parts);
        [
            to(&by_address, &[PacketField::Protocol, PacketField::Destination(version), PacketField::DestinationPort]),
            Rule::new()
                .of(version)
                .in_set(&services::set(version).name, &[PacketField::Destination(version)])
                .return_(),
            to(&any_address, &[PacketField::Protocol, PacketField::DestinationPort]),
        ]
    });
    Chain { name: HOST_PORTS.into(), base: None, rules: rules.collect() }
}

/// Masquerades what a pod could not reply to otherwise: packets of the node from 127.0.0.1, and of a pod to itself by a
/// host port. Then the pods of networks with `ipMasq`.
fn postrouting() -> Chain {
    let own = Rule::new().from(loopback()).oifname(defaults::HOST_VETH_PREFIX).masquerade();
    let hairpin = |version| {
        let parts = [PacketField::Source(version), PacketField::Destination(version)];
        Rule::new().dnatted().of(version).in_set(&host_ports::hairpin(version), &parts).masquerade()
    };
    let network = |version| Rule::new().of(version).vmap(&masquerade::map(version), &[PacketField::Source(version)]);
    Chain {
        name: "pod-postrouting".into(),
        base: Some(Base { chain_type: ChainType::Nat, hook: ChainHook::Postrouting, priority: SOURCE_NAT }),
        rules: std::iter::once(own).chain(IpVersion::BOTH.map(hairpin)).chain(IpVersion::BOTH.map(network)).collect(),
    }
}
