//! Host ports that somebody has broken: the daemon restores them from the plugin's ledger, and their flows follow.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use podwire_kernel::family::IpVersion;
use podwire_kernel::{Socket, conntrack};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, same, state};
use podwire_tests::lab::{SOON, eventually};
use serde_json::{Value, json};

use crate::overlay::firewall::by_chain;
use crate::plugin::attachment::host_device;

/// The port of the node.
pub(crate) const HOST_PORT: u16 = 8080;

/// A pod with a host port, made by hand: the call that makes it, and the name of its device on the host.
pub(crate) fn with_port(node: &Node, name: &str, port: u16) -> Outcome<(Host, Call, String)> {
    let mappings = ["tcp", "udp"].map(|protocol| json!({"hostPort": port, "containerPort": 80, "protocol": protocol}));
    with_mappings(node, name, &mappings)
}

/// A pod with these host ports, as a runtime writes them.
pub(crate) fn with_mappings(node: &Node, name: &str, mappings: &[Value]) -> Outcome<(Host, Call, String)> {
    let mut configuration = node.configuration()?;
    configuration["runtimeConfig"] = json!({"portMappings": mappings});
    let (host, netns) = node.host.pod(name)?;
    host.run("ip", &["link", "set", "lo", "up"])?;
    let call = Call::new("ADD", name, &netns, &configuration);
    let result = call.execute(&node.host)?.result()?;
    Ok((host, call, host_device(&result)))
}

/// Answers one word on port 80 of a pod for as long as the world is.
pub(super) fn serve(pod: &Host) -> Outcome {
    let listener = pod.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80))).map_err(|error| error.to_string())?;
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Who has asked and is gone does not want to know.
            let _ = stream.write_all(b"pod");
        }
    });
    Ok(())
}

/// That a port of a node is answered by the pod.
pub(super) fn answers(from: &Host, node: IpAddr) -> Outcome {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&(node, HOST_PORT).into(), Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = from.enter(ask).map_err(|error| format!("from {} to {node}: {error}", from.name))?;
    check(answer == "pod", || format!("{node} answers {answer:?}"))
}

#[test]
fn host_ports_survive_every_flush() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (pod, _, _) = with_port(node, "pod", HOST_PORT)?;
        serve(&pod)?;
        let host = &node.host;
        let whole = by_chain(&state(host)?);
        for broken in [
            "flush ruleset",
            "delete table inet podwire",
            "flush table inet podwire",
            "flush chain inet podwire hostports",
            "delete element inet podwire hostports4 { tcp . 8080 }",
            "flush map inet podwire hostports6",
            "flush set inet podwire hairpin4",
            "delete element inet podwire hostports4 { udp . 8080 }; \
             add element inet podwire hostports4 { udp . 8080 : 10.244.1.77 . 80 }",
            "flush chain inet podwire loopback-guard; delete chain inet podwire loopback-guard",
            "insert rule inet podwire pod-postrouting accept",
            // As an earlier version had it.
            "delete chain inet podwire hostport-prerouting; add chain inet podwire hostport-prerouting \
             { type nat hook prerouting priority dstnat; }; \
             add rule inet podwire hostport-prerouting fib daddr type local jump hostports",
            "add element inet podwire service-addresses4 { 192.168.50.1 }",
        ] {
            host.run("nft", &[broken])?;
            eventually(SOON, || same("the node", &whole, &by_chain(&state(host)?)))
                .map_err(|why| format!("after {broken}: {why}"))?;
            for like in FAMILIES {
                answers(&lab.outside, underlay_address(1, like)).map_err(|why| format!("after {broken}: {why}"))?;
            }
        }
        Ok(())
    });
}

/// Everything in the plugin's sets, as `nft` lists it.
pub(super) fn translated(host: &Host) -> Outcome<Vec<String>> {
    let list = host.run("nft", &["list", "table", "inet", "podwire"])?;
    Ok(list.lines().filter(|line| line.contains("comment \"pw")).map(|line| line.trim().to_owned()).collect())
}

#[test]
fn a_pod_that_ends_while_the_firewall_is_restored_gets_nothing_back() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let host = &node.host;
        let (stays, ..) = with_port(node, "stays", HOST_PORT)?;
        serve(&stays)?;
        let whole = translated(host)?;
        for round in 0..20 {
            let port = 9000 + round;
            let (_pod, call, _) = with_port(node, &format!("ends-{round}"), port)?;
            thread::scope(|scope| {
                let ends = scope.spawn(|| call.clone().verb("DEL").execute(host)?.result().map(drop));
                let flush = host.run("nft", &["flush", "ruleset"]).map(drop);
                flush.and(ends.join().map_err(|_| "DEL has panicked".to_owned())?)
            })?;
            eventually(SOON, || {
                let found = translated(host)?;
                check(found == whole, || format!("round {round}: {found:#?} instead of {whole:#?}"))
            })?;
        }
        answers(&lab.outside, underlay_address(1, FAMILIES[0]))
    });
}

#[test]
fn a_pod_does_not_reach_the_nodes_loopback_services_after_a_flush_either() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (pod, ..) = with_port(node, "pod", HOST_PORT)?;
        let host = &node.host;
        let own = host.enter(|| UdpSocket::bind(("127.0.0.1", 5353))).map_err(|error| error.to_string())?;
        own.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
        let whole = by_chain(&state(host)?);
        host.run("nft", &["flush ruleset"])?;
        eventually(SOON, || same("the node", &whole, &by_chain(&state(host)?)))?;
        // By a route of its own making; what the node says itself is heard after that, and first.
        pod.run("ip", &["route", "add", "127.0.0.1", "via", "169.254.1.1", "dev", "eth0", "onlink", "table", "7"])?;
        pod.run("ip", &["rule", "add", "to", "127.0.0.1", "table", "7", "priority", "0"])?;
        pod.run("sh", &["-c", "ip rule delete table local priority 0; ip rule add table local priority 9"])?;
        pod.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"])?;
        let from = pod.enter(|| {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.send_to(b"pod", ("127.0.0.1", 5353))
        });
        from.map_err(|error| format!("the pod cannot even try: {error}"))?;
        host.enter(|| UdpSocket::bind(("127.0.0.1", 0))?.send_to(b"node", ("127.0.0.1", 5353)))
            .map_err(|error| error.to_string())?;
        let mut heard = [0; 16];
        let (length, _) = own.recv_from(&mut heard).map_err(|error| error.to_string())?;
        check(&heard[..length] == b"node", || "the pod was heard".into())
    });
}

#[test]
fn datagrams_follow_a_restored_host_port() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let (pod, ..) = with_port(node, "pod", HOST_PORT)?;
        let heard = pod.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 80))).map_err(|error| error.to_string())?;
        heard.set_read_timeout(Some(Duration::from_millis(20))).map_err(|error| error.to_string())?;
        // Somebody who never stops: each datagram belongs to the flow of the one before.
        let client = lab.outside.enter(|| UdpSocket::bind(("0.0.0.0", 0))).map_err(|error| error.to_string())?;
        let to = (underlay_address(1, FAMILIES[0]), HOST_PORT);
        let arrives = || {
            eventually(SOON, || {
                client.send_to(b"?", to).map_err(|error| error.to_string())?;
                heard.recv_from(&mut [0; 16]).map(drop).map_err(|error| error.to_string())
            })
        };
        arrives()?;
        for round in 0..5 {
            node.host
                .run("nft", &["flush map inet podwire hostports4; flush map inet podwire hostports-by-address4"])?;
            // A flow that begins now has no translation, and would never have one.
            let filter = conntrack::Filter {
                version: IpVersion::V4,
                protocol: 17,
                destination: None,
                destination_port: Some(HOST_PORT),
                reply_source: None,
            };
            let forget = || conntrack::forget(&mut Socket::netfilter()?, &filter);
            node.host.enter(forget).map_err(|error| error.to_string())?;
            client.send_to(b"?", to).map_err(|error| error.to_string())?;
            arrives().map_err(|why| format!("round {round}: {why}"))?;
        }
        Ok(())
    });
}
