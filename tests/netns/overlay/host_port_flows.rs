//! Tracked UDP flows when a pod with host ports comes and goes: its own follow, those of others stay, and it does not take
//! long.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use podwire_kernel::Socket;
use podwire_kernel::conntrack::{self, Connection, Filter};
use podwire_kernel::family::IpVersion;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster};
use podwire_tests::lab::{SOON, UPLINK, eventually, outside_address};
use serde_json::{Value, json};

use crate::repair::host_ports::with_mappings;

const UDP: u8 = 17;
const PORT: u16 = 51820;
/// Two more addresses of the node: one of a Service, one that nobody asks.
const MORE: [[&str; 2]; 2] = [["192.168.50.77", "fd00:192:168:50::77"], ["192.168.50.78", "fd00:192:168:50::78"]];

/// The flows to the port, of the family of `like`.
fn tracked(host: &Host, like: IpAddr) -> Outcome<Vec<Connection>> {
    let version = IpVersion::of(like);
    let filter = Filter { version, protocol: UDP, destination: None, destination_port: Some(PORT), reply_source: None };
    let list = || Socket::netfilter().and_then(|mut socket| conntrack::list(&mut socket, &filter));
    host.enter(list).map_err(|error| error.to_string())
}

fn socket(host: &Host, like: IpAddr, port: u16) -> Outcome<UdpSocket> {
    let open = || UdpSocket::bind((IpVersion::of(like).unspecified(), port));
    host.enter(open).map_err(|error| format!("udp of {}: {error}", host.name))
}

fn says(socket: &UdpSocket, to: IpAddr) -> Outcome {
    // A socket may report an earlier packet's rejection, and does not send then.
    let sent = socket.send_to(b"?", (to, PORT)).or_else(|_| socket.send_to(b"?", (to, PORT)));
    sent.map(drop).map_err(|error| format!("udp to {to}: {error}"))
}

/// Where the flows went that are there before and are not after.
fn lost(before: &[Connection], after: &[Connection]) -> BTreeSet<(IpAddr, IpAddr)> {
    let lost = before.iter().filter(|flow| !after.contains(flow));
    lost.map(|flow| (flow.destination.ip(), flow.reply_source.ip())).collect()
}

fn mapping(host_ip: Option<&str>) -> Value {
    let mut mapping = json!({"hostPort": PORT, "containerPort": 80, "protocol": "udp"});
    if let Some(address) = host_ip {
        mapping["hostIP"] = address.into();
    }
    mapping
}

#[test]
fn only_flows_to_the_very_host_port_are_forgotten() {
    cluster(1, |lab| {
        lab.nodes[0].add_pod("user")?;
        lab.nodes[0].add_pod("endpoint")?;
        let (node, outside) = (&lab.nodes[0], &lab.outside);
        let (user, endpoint) = (node.pod("user"), node.pod("endpoint"));
        for (number, like) in FAMILIES.into_iter().enumerate() {
            let [service, idle] = MORE.map(|addresses| addresses[number]);
            // The node takes neither for a source of its own, as keepalived has it.
            let (length, not_a_source): (_, &[&str]) =
                if like.is_ipv6() { (64, &["preferred_lft", "0"]) } else { (24, &[]) };
            for address in [service, idle] {
                let whole = format!("{address}/{length}");
                node.host.run("ip", &[&["address", "replace", &whole, "dev", UPLINK], not_a_source].concat())?;
            }
            let (ip, own) = (if like.is_ipv6() { "ip6" } else { "ip" }, underlay_address(1, like));
            let target = std::net::SocketAddr::new(endpoint.address(like), 80);
            node.host.run(
                "nft",
                &[&format!(
                    "table {ip} kube-proxy {{ chain nat {{ type nat hook prerouting priority dstnat; \
                 {ip} daddr {service} udp dport {PORT} dnat to {target}; }}; }}"
                )],
            )?;
            // Of a pod to the same port outside, of outside to a Service and to the port of the node itself.
            let heard = socket(outside, like, PORT)?;
            heard.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
            let (mine, theirs, plain) =
                (socket(&user.host, like, 0)?, socket(outside, like, 0)?, socket(outside, like, 0)?);
            let service: IpAddr = service.parse().unwrap();
            let leaves = || -> Outcome<_> {
                says(&mine, outside_address(like))?;
                heard.recv_from(&mut [0; 16]).map(|(_, from)| from).map_err(|error| error.to_string())
            };
            let source = leaves()?;
            check(source.ip() == own, || format!("not masqueraded: {source}"))?;
            for (count, (host_ip, to_the_node)) in
                [(None, true), (Some(own.to_string()), true), (Some(idle.to_owned()), false)].into_iter().enumerate()
            {
                says(&theirs, service)?;
                says(&plain, own)?;
                let before = tracked(&node.host, like)?;
                let name = format!("pod-{number}-{count}");
                let (pod, call, _) = with_mappings(node, &name, &[mapping(host_ip.as_deref())])?;
                let forgotten = lost(&before, &tracked(&node.host, like)?);
                let expected: BTreeSet<_> = to_the_node.then_some((own, own)).into_iter().collect();
                check(forgotten == expected, || format!("{host_ip:?}: ADD has forgotten {forgotten:?}"))?;
                check(leaves()? == source, || "a masqueraded flow was forgotten".into())?;
                // DEL forgets what went to the pod, so that the node itself is asked again.
                says(&theirs, service)?;
                says(&plain, own)?;
                let before = tracked(&node.host, like)?;
                drop(pod);
                call.clone().verb("DEL").execute(&node.host)?.result()?;
                let forgotten = lost(&before, &tracked(&node.host, like)?);
                let went: Vec<_> = forgotten.iter().map(|(to, _)| *to).collect();
                let expected = if to_the_node { vec![own] } else { Vec::new() };
                check(went == expected, || format!("{host_ip:?}: DEL has forgotten {forgotten:?}"))?;
                check(forgotten.iter().all(|(to, by)| to != by), || format!("DEL has forgotten {forgotten:?}"))?;
                check(leaves()? == source, || "a masqueraded flow was forgotten".into())?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_flow_to_an_address_that_has_moved_away_is_forgotten_with_the_pod() {
    cluster(1, |lab| {
        lab.nodes[0].add_pod("user")?;
        let (node, outside) = (&lab.nodes[0], &lab.outside);
        for (number, like) in FAMILIES.into_iter().enumerate() {
            let moving = MORE[0][number];
            let whole = format!("{moving}/{}", if like.is_ipv6() { 64 } else { 24 });
            // Not one to speak under: IPv6 takes the newest that it prefers.
            let flags: &[&str] = if like.is_ipv6() { &["nodad", "preferred_lft", "0"] } else { &[] };
            let add = |host: &Host| host.run("ip", &[&["address", "add", &whole, "dev", UPLINK], flags].concat());
            add(&node.host)?;
            let (pod, call, _) = with_mappings(node, &format!("pod-{number}"), &[mapping(None)])?;
            let (address, mine) = (moving.parse().unwrap(), socket(&node.pod("user").host, like, 0)?);
            says(&mine, address)?;
            let leads = || -> Outcome<Vec<IpAddr>> {
                let flows = tracked(&node.host, like)?.into_iter().filter(|flow| flow.destination.ip() == address);
                Ok(flows.map(|flow| flow.reply_source.ip()).collect())
            };
            let before = leads()?;
            check(before.len() == 1 && before[0] != address, || format!("flows to {moving} lead to {before:?}"))?;
            // A virtual IP that another host has now: what the pod's connections are stays with the pod, as long as it is there.
            node.host.run("ip", &["address", "del", &whole, "dev", UPLINK])?;
            add(outside)?;
            let heard = eventually(SOON, || {
                let open = || UdpSocket::bind((address, PORT));
                outside.enter(open).map_err(|error| format!("{moving} outside: {error}"))
            })?;
            heard.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
            drop(pod);
            call.clone().verb("DEL").execute(&node.host)?.result()?;
            says(&mine, address)?;
            heard.recv_from(&mut [0; 16]).map_err(|error| format!("what is sent to {moving} is not heard: {error}"))?;
        }
        Ok(())
    });
}

#[test]
fn a_thousand_ports_beside_a_hundred_thousand_flows_are_one_search() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        // A small machine tracks fewer.
        let most = node.host.run("cat", &["/proc/sys/net/netfilter/nf_conntrack_max"])?;
        let most = most.parse::<usize>().map_err(|error| format!("{most}: {error}"))?.min(200_000) / 2;
        // On a busy machine many would end by themselves, after half a minute.
        let lasting = "echo 600 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
        node.host.run("sh", &["-c", lasting])?;
        let targets = (2..).flat_map(|last| (5_000..65_000).map(move |port| (Ipv4Addr::new(127, 0, 0, last), port)));
        node.host
            .enter(|| -> io::Result<()> {
                let socket = UdpSocket::bind(("127.0.0.1", 0))?;
                for target in targets.take(most) {
                    // A socket may report an earlier packet's rejection, and does not send then.
                    while let Err(error) = socket.send_to(b"?", target) {
                        if error.kind() != io::ErrorKind::ConnectionRefused {
                            return Err(error);
                        }
                    }
                }
                let six = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
                six.send_to(b"?", (Ipv6Addr::LOCALHOST, 20_500)).map(drop)
            })
            .map_err(|error| error.to_string())?;
        let count = || -> Outcome<usize> {
            let count = node.host.run("cat", &["/proc/sys/net/netfilter/nf_conntrack_count"])?;
            count.parse().map_err(|error| format!("{count}: {error}"))
        };
        let before = count()?;
        check(before >= most, || format!("there are only {before} entries"))?;
        let ports: Vec<_> =
            (20_000..21_000).map(|port| json!({"hostPort": port, "containerPort": port, "protocol": "udp"})).collect();
        let start = Instant::now();
        let (_pod, call, _) = with_mappings(node, "many", &ports)?;
        let took = start.elapsed();
        let after = count()?;
        // Some end by themselves meanwhile.
        check(before - after >= 1_000 && before - after < 3_000, || format!("{before} entries are {after} now"))?;
        check(took < Duration::from_secs(10), || format!("ADD took {took:?}"))?;
        let start = Instant::now();
        call.clone().verb("DEL").execute(&node.host)?.result()?;
        let took = start.elapsed();
        check(took < Duration::from_secs(10), || format!("DEL took {took:?}"))
    });
}
