//! Answers to probes that were never given: hosts and pods that send the node ICMP make no peer answer, and cost the daemon
//! nothing.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};
use podwire_tests::lab::daemon::{self, json};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, scene};
use podwire_tests::lab::{Lab, SOON, eventually};

/// A raw socket that sends ICMP of a family, and the type of an answer.
struct Forger<'a> {
    host: &'a Host,
    to: IpAddr,
}

impl Forger<'_> {
    /// Sends answers with these identifiers and numbers, until the closure has no more.
    fn send(&self, mut next: impl FnMut() -> Option<(u16, u16)> + Send) -> Outcome {
        let (family, protocol) = match self.to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let work = || -> nix::Result<()> {
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            while let Some((identifier, number)) = next() {
                // Of ICMPv6 the kernel computes the checksum.
                let kind = if self.to.is_ipv4() { 0_u8 } else { 129 };
                let mut packet = vec![kind, 0, 0, 0];
                packet.extend([identifier.to_be_bytes(), number.to_be_bytes()].concat());
                packet.resize(64, 0);
                if self.to.is_ipv4() {
                    let sum = u32::from(identifier) + u32::from(number);
                    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0);
                    packet[2..4].copy_from_slice(&sum.to_be_bytes());
                }
                let sent = match self.to {
                    IpAddr::V4(to) => {
                        let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
                        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())
                    }
                    IpAddr::V6(to) => {
                        let to = SockaddrIn6::from(std::net::SocketAddrV6::new(to, 0, 0, 0));
                        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())
                    }
                };
                // What the kernel's queue has no room for is a packet less.
                match sent {
                    Ok(_) | Err(nix::errno::Errno::ENOBUFS) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        self.host.enter(work).map_err(|error| format!("forge from {} to {}: {error}", self.host.name, self.to))
    }
}

fn peer(lab: &Lab) -> Outcome<serde_json::Value> {
    Ok(json(&lab.nodes[0].host, &["status", "--json"])?["peers"][0].clone())
}

#[test]
fn a_forged_answer_makes_no_silent_peer_answer() {
    scene(2, |lab| {
        lab.start()?;
        let pod = lab.nodes[0].add_pod("forger")?.host.clone();
        for rule in [
            "add table inet deaf",
            "add chain inet deaf input { type filter hook input priority -300; }",
            "add rule inet deaf input iifname podwire.1 icmp type echo-request drop",
            "add rule inet deaf input iifname podwire.1 icmpv6 type echo-request drop",
        ] {
            lab.nodes[1].host.run("nft", &[rule])?;
        }
        lab.nodes[0].daemon = None;
        lab.nodes[0].start()?;
        let over = AtomicBool::new(false);
        let [_, _, high, low] = daemon::of(&lab.nodes[0])?.id().to_be_bytes();
        let process = u16::from_be_bytes([high, low]);
        let (lab, over) = (&*lab, &over);
        thread::scope(|threads| {
            let mut forgers = Vec::new();
            for (from, like) in [&lab.outside, &pod].into_iter().flat_map(|from| FAMILIES.map(|like| (from, like))) {
                let numbers = (0..=64).cycle().take_while(|_| !over.load(Ordering::Relaxed));
                let mut numbers = numbers.map(|number| (process, number));
                let forger = Forger { host: from, to: underlay_address(1, like) };
                forgers.push(threads.spawn(move || {
                    forger.send(|| {
                        thread::yield_now();
                        numbers.next()
                    })
                }));
            }
            let silent = eventually(SOON, || {
                let peer = peer(lab)?;
                check(peer["state"] == "silent" || peer["state"] == "answers", || peer.to_string())
            })
            .and_then(|()| {
                let peer = peer(lab)?;
                let lost = |place: usize| peer["probes"][place]["loss_percent"] == 100;
                check(peer["state"] == "silent" && lost(0) && lost(1), || peer.to_string())
            });
            // And an answer is heard beside them.
            let heard = silent.and_then(|()| {
                lab.nodes[1].host.run("nft", &["delete table inet deaf"])?;
                eventually(2 * SOON, || {
                    let peer = peer(lab)?;
                    check(peer["state"] == "answers", || peer.to_string())
                })
            });
            over.store(true, Ordering::Relaxed);
            forgers.into_iter().try_for_each(|forger| forger.join().map_err(|_| "a forger".to_owned())?)?;
            heard
        })
    });
}

/// What the daemon has used of the processor, in hundredths of a second.
fn used(lab: &Lab) -> Outcome<u64> {
    let process = daemon::of(&lab.nodes[0])?.id().to_string();
    let stat = lab.nodes[0].host.run("cat", &[&format!("/proc/{process}/stat")])?;
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect::<Vec<_>>();
    let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    number(11).zip(number(12)).map(|(user, system)| user + system).ok_or(stat)
}

#[test]
fn a_flood_of_icmp_costs_the_daemon_nothing() {
    cluster(2, |lab| {
        let pod = lab.nodes[0].add_pod("forger")?.host.clone();
        eventually(SOON, || {
            let peer = peer(lab)?;
            check(peer["state"] == "answers", || peer.to_string())
        })?;
        let before = used(lab)?;
        for (from, like) in [&lab.outside, &pod].into_iter().flat_map(|from| FAMILIES.map(|like| (from, like))) {
            // Whatever the identifier is: a few of so many are it.
            let mut each = (0..200_000_u32).map(|count| {
                let [_, low, high, other] = count.wrapping_mul(0x9e37_79b1).to_be_bytes();
                (u16::from_be_bytes([low, high]), u16::from_be_bytes([high, other]))
            });
            Forger { host: from, to: underlay_address(1, like) }.send(|| each.next())?;
        }
        let cost = used(lab)?.saturating_sub(before);
        check(cost <= 10, || format!("800,000 packets of ICMP cost the daemon {cost}0 ms"))
    });
}
