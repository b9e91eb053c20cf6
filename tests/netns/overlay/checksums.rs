//! The checksums of the overlay's outer UDP packets: over IPv6 each packet has one, whichever path it takes on its node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use podwire_tests::lab::SOON;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, json, scene};

use super::fast_path::{Conversation, MANY, counted, three_pods};
use super::modes::membership_on;

/// The port of transfers.
const PORT: u16 = 7200;

/// What has come to a node's VXLAN port: without a checksum, and with one.
fn came(node: &Host) -> Outcome<[u64; 2]> {
    let packets = |name: &str| {
        let found = json(node, "nft", &["-j", "list", "counter", "inet", "wire", name])?;
        let counters = found["nftables"].as_array().into_iter().flatten();
        counters.filter_map(|one| one["counter"]["packets"].as_u64()).next().ok_or_else(|| found.to_string())
    };
    Ok([packets("without")?, packets("with")?])
}

#[test]
fn packets_over_ipv6_have_a_checksum_and_pass_what_drops_those_without() {
    scene(2, |lab| {
        lab.write(&membership_on(FAMILIES[1], 1..=2))?;
        lab.start()?;
        three_pods(lab)?;
        for node in &lab.nodes {
            for line in [
                "add table inet wire",
                "add counter inet wire without",
                "add counter inet wire with",
                // Before the overlay's own guards, as another host on the way would see the packets.
                "add chain inet wire came { type filter hook prerouting priority -400; }",
                "add rule inet wire came udp dport 8472 udp checksum != 0 counter name with",
                // RFC 8200, section 8.1: what a router or a firewall may do.
                "add rule inet wire came udp dport 8472 udp checksum 0 counter name without drop",
            ] {
                node.host.run("nft", &[line])?;
            }
        }
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        for like in FAMILIES {
            let to = far.address(like);
            let mut talk = Conversation::start(&near.host, &far.host, to)?;
            talk.go_on(50)?;
            let before = counted(&lab.nodes[0].host, "forwarded")?;
            talk.go_on(MANY)?;
            let forwarded = counted(&lab.nodes[0].host, "forwarded")? - before;
            check(forwarded < MANY / 4, || format!("{forwarded} packets of {MANY} exchanges took the normal path"))?;
            talk.end()?;
            // Packets that the device cuts into many, too.
            let to = SocketAddr::new(to, PORT);
            let failed = |error: std::io::Error| format!("a transfer to {to}: {error}");
            let listener = far.host.enter(|| TcpListener::bind(to)).map_err(failed)?;
            let sink = thread::spawn(move || {
                let (mut stream, mut all) = (listener.accept().unwrap().0, Vec::new());
                stream.read_to_end(&mut all).map(|_| all.len())
            });
            let mut stream = near.host.enter(|| TcpStream::connect_timeout(&to, SOON)).map_err(failed)?;
            stream.write_all(&vec![7; 8_000_000]).map_err(failed)?;
            drop(stream);
            let arrived = sink.join().map_err(|_| "the sink panicked")?.map_err(failed)?;
            check(arrived == 8_000_000, || format!("{arrived} bytes arrived at {to}"))?;
        }
        for node in &lab.nodes {
            let [without, with] = came(&node.host)?;
            check(without == 0 && with > MANY, || format!("{without} packets without a checksum, {with} with one"))?;
        }
        Ok(())
    });
}
