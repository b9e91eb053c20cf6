//! Connections that fall idle after the fast path has carried their last packets: connection tracking keeps them as long
//! as any other.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster};
use podwire_tests::lab::{Lab, SOON, eventually};

use super::fast_path::three_pods;

const PORT: u16 = 7300;
/// The kernel's time-out of an established connection is five days, that of one with unacknowledged data five minutes.
const LONG: u64 = 400_000;
const UNACKNOWLEDGED: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_unacknowledged";
const ESTABLISHED: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";

/// How many seconds a node would keep the established connections to a port without another packet.
fn remaining(node: &Host, port: u16) -> Outcome<Vec<u64>> {
    let table = node.run("cat", &["/proc/net/nf_conntrack"])?;
    let to_port = format!(" dport={port} ");
    let lines = table.lines().filter(|line| line.contains("ESTABLISHED") && line.contains(&to_port));
    Ok(lines.filter_map(|line| line.split_whitespace().nth(4)?.parse().ok()).collect())
}

fn kept(lab: &Lab, port: u16, what: &str) -> Outcome {
    lab.nodes.iter().try_for_each(|node| {
        eventually(SOON, || {
            let found = remaining(&node.host, port)?;
            let right = found.len() == 1 && found[0] > LONG;
            check(right, || format!("{what}: {} keeps it for {found:?} s", node.host.name))
        })
    })
}

fn connect(from: &Host, to: &Host, address: IpAddr, port: u16) -> Outcome<[TcpStream; 2]> {
    let failed = |error: std::io::Error| format!("connect {} to {address}: {error}", from.name);
    let listener = to.enter(|| TcpListener::bind((address, port))).map_err(failed)?;
    let client = from.enter(|| TcpStream::connect_timeout(&(address, port).into(), SOON)).map_err(failed)?;
    let server = listener.accept().map_err(failed)?.0;
    for stream in [&client, &server] {
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(SOON))).map_err(failed)?;
    }
    Ok([client, server])
}

/// One side says something, the other hears it.
fn say(from: &mut TcpStream, to: &mut TcpStream) -> Outcome {
    let mut heard = [0; 5];
    let said = from.write_all(b"hello").and_then(|()| to.read_exact(&mut heard));
    said.map_err(|error| format!("a word on a connection: {error}"))
}

#[test]
fn an_idle_connection_is_kept_whoever_has_spoken_first_and_last() {
    cluster(2, |lab| {
        three_pods(lab)?;
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        for (like, base) in FAMILIES.into_iter().zip([PORT, PORT + 10]) {
            for (number, (what, speakers)) in (0..).zip([
                ("the server speaks once", &[1][..]),
                ("the client speaks once", &[0]),
                ("the client asks and is answered", &[0, 1]),
                ("the server greets, the client asks, the server answers", &[1, 0, 1]),
            ]) {
                let port = base + number;
                let mut ends = connect(&near.host, &far.host, far.address(like), port)?;
                for speaker in speakers {
                    let [client, server] = &mut ends;
                    let (from, to) = if *speaker == 0 { (client, server) } else { (server, client) };
                    say(from, to)?;
                }
                kept(lab, port, what)?;
            }
        }
        Ok(())
    });
}

#[test]
fn the_time_out_of_unacknowledged_data_follows_that_of_established_connections() {
    cluster(1, |lab| {
        lab.nodes[0].add_pod("pod")?;
        let node = &lab.nodes[0].host;
        let is = |expected: &str| {
            eventually(SOON, || {
                let found = node.run("cat", &[UNACKNOWLEDGED])?;
                check(found == expected, || format!("it is {found}, not {expected}"))
            })
        };
        let set = |path: &str, seconds: u32| node.run("sh", &["-c", &format!("echo {seconds} > {path}")]);
        // Anything that is announced makes the daemon look.
        let announce = || ["down", "up"].iter().try_for_each(|to| node.run("ip", &["link", "set", "lo", to]).map(drop));
        is("432000")?;
        // As kube-proxy sets it.
        set(ESTABLISHED, 86_400)?;
        set(UNACKNOWLEDGED, 300)?;
        announce()?;
        is("86400")?;
        // A longer one is somebody's decision.
        set(UNACKNOWLEDGED, 100_000)?;
        set(ESTABLISHED, 90_000)?;
        node.run("ip", &["route", "delete", "blackhole", "10.244.0.0/16"])?;
        eventually(SOON, || {
            let route = node.run("ip", &["route", "show", "10.244.0.0/16"])?;
            check(!route.is_empty(), || "nothing is repaired".into())
        })?;
        is("100000")
    });
}
