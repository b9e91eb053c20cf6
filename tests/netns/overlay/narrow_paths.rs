//! A path between two nodes that takes less than their interfaces' MTU: podwired measures it, and the routes to the pods
//! behind it say so, until the path grows.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{Membership, underlay_address};
use podwire_tests::lab::node::Pod;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, json, scene};
use podwire_tests::lab::{Lab, SOON, daemon, eventually};

use super::connectivity::pods;
use super::modes::settle;

const PORT: u16 = 7500;
/// What the path takes, in bytes.
const NARROW: u32 = 1400;
/// How long a path is measured again after it was found narrow: half a minute, and what it takes.
const MEASURED_AGAIN: Duration = Duration::from_secs(90);
/// What is lost once and told to the sender takes a moment; what is lost without a word takes seconds.
const PROMPTLY: Duration = Duration::from_secs(2);

/// Puts the second node behind a router: the host outside, which everybody's default route leads to.
pub(crate) fn move_away(lab: &Lab) -> Outcome {
    let router = [
        "ip address add 192.168.60.254/24 dev eth0; ip address add fd00:192:168:60::254/64 dev eth0 nodad",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=1",
    ];
    router.iter().try_for_each(|line| lab.outside.run("sh", &["-c", line]).map(drop))?;
    let node = [
        "ip -4 address flush dev eth0; ip -6 address flush dev eth0 scope global",
        "ip address add 192.168.60.2/24 dev eth0; ip address add fd00:192:168:60::2/64 dev eth0 nodad",
        "ip route add default via 192.168.60.254; ip -6 route replace default via fd00:192:168:60::254",
    ];
    node.iter().try_for_each(|line| lab.nodes[1].host.run("sh", &["-c", line]).map(drop))
}

/// Sets what the router lets through in both directions.
pub(crate) fn set_path(lab: &Lab, mtu: u32) -> Outcome {
    for prefix in ["192.168.50.0/24", "192.168.60.0/24", "fd00:192:168:50::/64", "fd00:192:168:60::/64"] {
        // In place of the kernel's own. IPv6 forwards by a route's MTU only if it is locked.
        let metric = if prefix.contains(':') { 256 } else { 0 };
        let line = format!("ip route replace {prefix} dev eth0 metric {metric} proto kernel mtu lock {mtu}");
        lab.outside.run("sh", &["-c", &line])?;
    }
    Ok(())
}

fn address_of_second(underlay: IpAddr) -> IpAddr {
    let text = if underlay.is_ipv4() { "192.168.60.2" } else { "fd00:192:168:60::2" };
    text.parse().unwrap()
}

/// The MTUs of a node's routes to another's pods.
fn route_mtus(node: &Host, other: u16) -> Outcome<Vec<Option<u64>>> {
    let routes = [("-4", format!("10.244.{other}.0/24")), ("-6", format!("fd00:10:244:{other}::/64"))];
    let mtu = |(family, destination): (&str, String)| {
        let found = json(node, "ip", &["-j", family, "route", "show", &destination])?;
        check(found[0]["nhid"].is_u64(), || format!("no route to {destination}: {found}"))?;
        Ok(found[0]["metrics"].as_array().and_then(|metrics| metrics.iter().find_map(|one| one["mtu"].as_u64())))
    };
    routes.into_iter().map(mtu).collect()
}

fn routes_have(lab: &Lab, mtu: Option<u64>) -> Outcome {
    let _: Vec<()> = lab
        .nodes
        .iter()
        .zip([2, 1])
        .map(|(node, other)| {
            eventually(MEASURED_AGAIN, || {
                let found = route_mtus(&node.host, other)?;
                check(found == [mtu; 2], || {
                    format!("routes of {} to node-{other}: {found:?}, not {mtu:?}", node.host.name)
                })
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(())
}

/// A pod's answer of 3,000 bytes, which goes in fragments: asked for again until it comes.
fn large_answers(from: &Pod, to: &Pod, like: IpAddr) -> Outcome {
    let (own, address) = (from.address(like), to.address(like));
    let failed = |error: std::io::Error| format!("a datagram from {own} to {address}: {error}");
    let server = to.host.enter(|| UdpSocket::bind((address, PORT))).map_err(failed)?;
    let client = from.host.enter(|| UdpSocket::bind((own, PORT))).map_err(failed)?;
    server.set_read_timeout(Some(SOON)).map_err(failed)?;
    client.set_read_timeout(Some(Duration::from_millis(100))).map_err(failed)?;
    let (start, mut buffer) = (Instant::now(), [0; 4000]);
    loop {
        client.send_to(b"?", (address, PORT)).map_err(failed)?;
        let (_, asked) = server.recv_from(&mut buffer).map_err(failed)?;
        server.send_to(&[7; 3000], asked).map_err(failed)?;
        if client.recv_from(&mut buffer).is_ok_and(|(length, _)| length == 3000) {
            return Ok(());
        }
        let took = start.elapsed();
        check(took < PROMPTLY, || format!("no answer of 3,000 bytes from {address} to {own} in {took:?}"))?;
    }
}

/// A large write on a connection that has exchanged small packets, so that the fast path knows it.
fn large_write(from: &Pod, to: &Pod, like: IpAddr) -> Outcome {
    const MUCH: usize = 200_000;
    let address = SocketAddr::new(to.address(like), PORT);
    let failed = |error: std::io::Error| format!("a write from {} to {address}: {error}", from.host.name);
    let listener = to.host.enter(|| TcpListener::bind(address)).map_err(failed)?;
    let sink = thread::spawn(move || -> std::io::Result<()> {
        let mut stream = listener.accept()?.0;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        for _ in 0..50 {
            stream.read_exact(&mut byte)?;
            stream.write_all(&byte)?;
        }
        stream.read_exact(&mut vec![0; MUCH])?;
        stream.write_all(&byte)
    });
    let mut stream = from.host.enter(|| TcpStream::connect_timeout(&address, SOON)).map_err(failed)?;
    stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(SOON))).map_err(failed)?;
    let mut byte = [0];
    for _ in 0..50 {
        stream.write_all(&[1]).and_then(|()| stream.read_exact(&mut byte)).map_err(failed)?;
    }
    let start = Instant::now();
    stream.write_all(&vec![7; MUCH]).and_then(|()| stream.read_exact(&mut byte)).map_err(failed)?;
    let took = start.elapsed();
    sink.join().map_err(|_| "the sink panicked")?.map_err(failed)?;
    check(took < PROMPTLY, || format!("a write of {MUCH} bytes to {address} took {took:?}"))
}

#[test]
fn routes_to_pods_behind_a_narrow_path_have_its_mtu_until_it_grows() {
    for (underlay, overhead) in FAMILIES.into_iter().zip([50, 70]) {
        scene(2, |lab| {
            move_away(lab)?;
            set_path(lab, NARROW)?;
            let mut membership = Membership::of(1..=2);
            membership.nodes[0].1 = underlay_address(1, underlay);
            membership.nodes[1].1 = address_of_second(underlay);
            lab.write(&membership)?;
            lab.start()?;
            let _responders = pods(lab)?;
            routes_have(lab, Some(u64::from(NARROW) - overhead))?;
            for (from, to) in [(0, 1), (1, 0)] {
                let name = |number| format!("pod-{}", number + 1);
                let (from, to) = (lab.nodes[from].pod(&name(from)), lab.nodes[to].pod(&name(to)));
                for like in FAMILIES {
                    large_answers(from, to, like)?;
                    large_write(from, to, like)?;
                }
            }
            set_path(lab, 1500)?;
            routes_have(lab, None)?;
            let pod = &lab.nodes[0].pod("pod-1").host;
            for like in FAMILIES {
                let to = lab.nodes[1].pod("pod-2").address(like).to_string();
                // A pod remembers for ten minutes what it was told of a path.
                let _ = pod.run("sh", &["-c", "ip route flush cache; ip -6 route flush cache"]);
                let size = 1500 - overhead - if like.is_ipv4() { 28 } else { 48 };
                eventually(SOON, || {
                    pod.run("ping", &["-c", "1", "-W", "1", "-M", "do", "-s", &size.to_string(), &to])
                })?;
            }
            Ok(())
        });
    }
}

#[test]
fn a_path_that_becomes_narrow_is_measured_once_an_error_says_so() {
    // Over IPv4 routers cut the overlay's packets, and say nothing.
    let [_, underlay] = FAMILIES;
    for settings in ["", "fast_path = false\nmasquerade = false\n"] {
        scene(2, |lab| {
            move_away(lab)?;
            let mut membership = Membership::of(1..=2);
            membership.nodes[0].1 = underlay_address(1, underlay);
            membership.nodes[1].1 = address_of_second(underlay);
            lab.write(&membership)?;
            settle(lab, settings)?;
            lab.start()?;
            let _responders = pods(lab)?;
            for node in &lab.nodes {
                eventually(SOON, || {
                    let status = daemon::json(&node.host, &["status", "--json"])?;
                    let found = &status["peers"][0]["path_mtu"];
                    check(*found == 1500, || format!("{} has measured {found}", node.host.name))
                })?;
            }
            routes_have(lab, None)?;
            // They are measured again four minutes later, or more.
            set_path(lab, NARROW)?;
            let (near, far) = (lab.nodes[0].pod("pod-1"), lab.nodes[1].pod("pod-2"));
            let start = Instant::now();
            eventually(SOON, || {
                // What either side answers is lost, and the router says so.
                let sent = [(near, far), (far, near)].map(|(from, to)| large_answers(from, to, FAMILIES[0]));
                for (node, other) in lab.nodes.iter().zip([2, 1]) {
                    let found = route_mtus(&node.host, other)?;
                    check(found == [Some(u64::from(NARROW) - 70); 2], || {
                        format!("routes of {} after {:?}: {found:?}, {sent:?}", node.host.name, start.elapsed())
                    })?;
                }
                Ok(())
            })?;
            for (from, to) in [(near, far), (far, near)] {
                for like in FAMILIES {
                    large_answers(from, to, like)?;
                    large_write(from, to, like)?;
                }
            }
            Ok(())
        });
    }
}
