//! Host ports beside Services whose address is on the node: the Service keeps its address, whoever was there first, and
//! every other address of the node leads to the pod.

use std::net::{IpAddr, Ipv6Addr};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, scene};
use podwire_tests::lab::{SOON, UPLINK, eventually};
use serde_json::json;

use super::modes::membership_on;
use crate::plugin::hand_made::{HOST_PORT, LOOPBACK, POD_PORT, Server, tcp, udp, udp_socket};
use crate::repair::host_ports::with_mappings;

/// Addresses of the node, of each family: of a Service that answers on the node itself, one that comes later, a virtual IP
/// with a Service, and one without.
const OWN: [&str; 2] = ["10.96.0.1", "fd00:96::1"];
const LATER: [&str; 2] = ["10.96.0.2", "fd00:96::2"];
const VIRTUAL: [&str; 2] = ["192.168.50.77", "fd00:192:168:50::77"];
const SPARE: [&str; 2] = ["192.168.50.78", "fd00:192:168:50::78"];

/// That TCP and UDP to the port are answered by `who`.
fn leads(from: &Host, to: &str, who: &str) -> Outcome {
    let to: IpAddr = to.parse().unwrap();
    for found in [tcp(from, to, HOST_PORT)?, udp(&udp_socket(from, to)?, to)?] {
        check(found.split(' ').next() == Some(who), || format!("from {} to {to}: {found}, not {who}", from.name))?;
    }
    Ok(())
}

/// What a proxy has for the virtual IPs: by nftables, or by iptables' tables at the same priority.
fn translate(node: &Host, by: &str, endpoint: &[IpAddr]) -> Outcome {
    for (number, virtual_ip) in VIRTUAL.iter().enumerate() {
        let target = std::net::SocketAddr::new(endpoint[number], POD_PORT).to_string();
        for protocol in ["tcp", "udp"] {
            let family = ["ip", "ip6"][number];
            if by == "nft" {
                let rule = format!("{family} daddr {virtual_ip} {protocol} dport {HOST_PORT} dnat to {target}");
                node.run(
                    "nft",
                    &[&format!(
                        "table {family} kube-proxy {{ \
                     chain before {{ type nat hook prerouting priority dstnat; {rule}; }}; \
                     chain out {{ type nat hook output priority -100; {rule}; }}; }}"
                    )],
                )?;
                continue;
            }
            let program = ["iptables", "ip6tables"][number];
            for chain in ["PREROUTING", "OUTPUT"] {
                let port = HOST_PORT.to_string();
                node.run(
                    program,
                    &[
                        "-t",
                        "nat",
                        "-A",
                        chain,
                        "-d",
                        virtual_ip,
                        "-p",
                        protocol,
                        "--dport",
                        &port,
                        "-j",
                        "DNAT",
                        "--to-destination",
                        &target,
                    ],
                )?;
            }
        }
    }
    Ok(())
}

fn play(by: &'static str, before: bool) {
    cluster(1, |lab| {
        for pod in ["client", "endpoint"] {
            lab.nodes[0].add_pod(pod)?;
        }
        let (node, outside) = (&lab.nodes[0], &lab.outside);
        let host = &node.host;
        // This kernel may have no devices of kind dummy.
        host.run("ip", &["link", "add", "kube-ipvs0", "type", "ifb"])?;
        let service = |address: &str| -> Outcome<Server> {
            let length = if address.contains(':') { 128 } else { 32 };
            host.run("ip", &["address", "add", &format!("{address}/{length}"), "dev", "kube-ipvs0"])?;
            eventually(SOON, || Server::start(host, "service", address.parse::<IpAddr>().unwrap(), HOST_PORT))
        };
        let (client, endpoint) = (&node.pod("client").host, node.pod("endpoint"));
        let mut servers = vec![Server::start(&endpoint.host, "service", Ipv6Addr::UNSPECIFIED, POD_PORT)?];
        for (number, like) in FAMILIES.into_iter().enumerate() {
            servers.push(service(OWN[number])?);
            for address in [VIRTUAL[number], SPARE[number]] {
                // Not one to speak under: IPv6 takes the newest that it prefers.
                let flags: &[&str] = if like.is_ipv6() { &["nodad", "preferred_lft", "0"] } else { &[] };
                let whole = format!("{address}/{}", if like.is_ipv6() { 64 } else { 24 });
                host.run("ip", &[&["address", "add", &whole, "dev", UPLINK], flags].concat())?;
            }
            let by = underlay_address(1, like).to_string();
            outside.run("ip", &["route", "add", OWN[number], "via", &by])?;
        }
        if before {
            translate(host, by, &endpoint.addresses)?;
        }
        let ports = ["tcp", "udp"]
            .map(|protocol| json!({"hostPort": HOST_PORT, "containerPort": POD_PORT, "protocol": protocol}));
        let (pod, _, _) = with_mappings(node, "pod", &ports)?;
        servers.push(Server::start(&pod, "pod", Ipv6Addr::UNSPECIFIED, POD_PORT)?);
        if !before {
            translate(host, by, &endpoint.addresses)?;
        }
        for (number, like) in FAMILIES.into_iter().enumerate() {
            for from in [outside, client, host, &pod] {
                // The daemon may not have heard of it yet.
                eventually(SOON, || leads(from, OWN[number], "service"))?;
                leads(from, VIRTUAL[number], "service")?;
                leads(from, SPARE[number], "pod")?;
                leads(from, &underlay_address(1, like).to_string(), "pod")?;
            }
            // A Service that comes when the host port is there.
            servers.push(service(LATER[number])?);
            eventually(SOON, || leads(client, LATER[number], "service"))?;
        }
        leads(host, &LOOPBACK.to_string(), "pod")
    });
}

#[test]
fn a_service_keeps_its_address_beside_a_later_host_port() {
    play("nft", true);
}

#[test]
fn a_service_takes_its_address_from_an_earlier_host_port() {
    play("nft", false);
}

#[test]
fn a_service_of_iptables_keeps_its_address_beside_a_later_host_port() {
    play("iptables", true);
}

#[test]
fn a_service_of_iptables_takes_its_address_from_an_earlier_host_port() {
    play("iptables", false);
}

#[test]
fn a_nodes_own_addresses_on_a_device_that_leads_nowhere_have_its_host_ports() {
    for underlay in FAMILIES {
        let [own, other] = if underlay.is_ipv4() { FAMILIES } else { [FAMILIES[1], FAMILIES[0]] };
        let [own, other] = [own, other].map(|like| underlay_address(1, like));
        scene(1, |lab| {
            let mut membership = membership_on(underlay, 1..=1);
            membership.addresses(1, &[other]);
            lab.write(&membership)?;
            lab.start()?;
            let (node, outside) = (&lab.nodes[0], &lab.outside);
            // As where routing protocols run on the host, for both families.
            node.host.run("ip", &["link", "add", "anycast", "type", "ifb"])?;
            let ports = ["tcp", "udp"]
                .map(|protocol| json!({"hostPort": HOST_PORT, "containerPort": POD_PORT, "protocol": protocol}));
            let (pod, _, _) = with_mappings(node, "pod", &ports)?;
            let _server = Server::start(&pod, "pod", Ipv6Addr::UNSPECIFIED, POD_PORT)?;
            let also = |address: &str| {
                let length = if address.contains(':') { 128 } else { 32 };
                node.host.run("ip", &["address", "add", &format!("{address}/{length}"), "dev", "anycast"])
            };
            for address in [own, other].map(|address| address.to_string()).iter().map(String::as_str).chain(OWN) {
                also(address)?;
            }
            // What is a Service's is known then.
            let serve = |address: &&str| {
                let at: IpAddr = address.parse().unwrap();
                eventually(SOON, || Server::start(&node.host, "service", at, HOST_PORT))
            };
            let services: Vec<_> = OWN.iter().map(serve).collect::<Outcome<_>>()?;
            for address in OWN {
                eventually(SOON, || leads(&node.host, address, "service"))?;
            }
            for address in [own, other].map(|address| address.to_string()) {
                for from in [outside, &node.host, &pod] {
                    leads(from, &address, "pod")?;
                }
            }
            drop(services);
            Ok(())
        });
    }
}

#[test]
fn a_flow_that_began_before_a_service_was_known_leads_to_the_service() {
    cluster(1, |lab| {
        lab.nodes[0].add_pod("client")?;
        let node = &mut lab.nodes[0];
        let ports = ["tcp", "udp"]
            .map(|protocol| json!({"hostPort": HOST_PORT, "containerPort": POD_PORT, "protocol": protocol}));
        let (pod, _, _) = with_mappings(node, "pod", &ports)?;
        let _pod = Server::start(&pod, "pod", Ipv6Addr::UNSPECIFIED, POD_PORT)?;
        // A daemon that is away, or has not heard of the address yet.
        node.daemon = None;
        node.host.run("ip", &["link", "add", "kube-ipvs0", "type", "ifb"])?;
        let (mut flows, mut services) = (Vec::new(), Vec::new());
        for (number, own) in OWN.iter().enumerate() {
            let length = if own.contains(':') { 128 } else { 32 };
            node.host.run("ip", &["address", "add", &format!("{own}/{length}"), "dev", "kube-ipvs0"])?;
            let address: IpAddr = own.parse().unwrap();
            services.push(eventually(SOON, || Server::start(&node.host, "service", address, HOST_PORT))?);
            for to in [address, underlay_address(1, FAMILIES[number])] {
                let flow = udp_socket(&node.pod("client").host, to)?;
                let found = udp(&flow, to)?;
                check(found.starts_with("pod "), || format!("{to}: {found}"))?;
                flows.push((flow, to, if to == address { "service" } else { "pod" }));
            }
        }
        node.start()?;
        node.wait_ready()?;
        for (flow, to, who) in &flows {
            eventually(SOON, || {
                let found = udp(flow, *to)?;
                check(found.split(' ').next() == Some(who), || format!("the flow to {to}: {found}, not {who}"))
            })?;
        }
        Ok(())
    });
}
