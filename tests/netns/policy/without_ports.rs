//! What a change refuses of protocols without ports: a ping that runs, and a protocol that conntrack knows by nothing but its number.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::policies::{add_pod, policed, put, take};
use podwire_tests::lab::process::Process;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use podwire_tests::lab::{SOON, eventually};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// For experiments (RFC 3692).
const EXPERIMENTAL: i32 = 253;

/// From one ping to the next, and how long nothing may be heard of a flow that is cut.
const INTERVAL: &str = "0.05";
const SILENCE: Duration = Duration::from_millis(300);

/// How long a packet that should not arrive is waited for.
const PATIENCE: Duration = Duration::from_millis(50);

/// Nobody reaches the server.
fn nobody() -> Value {
    json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]})
}

/// How many answers a ping has had.
fn answers(ping: &Process) -> usize {
    ping.said().iter().filter(|line| line.contains("bytes from")).count()
}

fn flows(ping: &Process) -> Outcome {
    let before = answers(ping);
    eventually(SOON, || check(answers(ping) > before + 5, || format!("{} answers, then silence", answers(ping))))
}

fn is_cut(ping: &Process) -> Outcome {
    eventually(SOON, || {
        let before = answers(ping);
        // Silence can only be waited for.
        std::thread::sleep(SILENCE);
        let more = answers(ping) - before;
        check(more == 0, || format!("{more} answers within {SILENCE:?}"))
    })
}

/// Both ends of a flow of another protocol.
struct Flow {
    sockets: [Socket; 2],
    addresses: [SockAddr; 2],
}

impl Flow {
    fn open(hosts: [&Host; 2], addresses: [IpAddr; 2]) -> Outcome<Self> {
        let open = |host: &Host, address: IpAddr| {
            let socket = || -> io::Result<Socket> {
                let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
                let socket = Socket::new(domain, Type::RAW.cloexec(), Some(Protocol::from(EXPERIMENTAL)))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Ok(socket)
            };
            host.enter(socket).map_err(|error| format!("a raw socket on {}: {error}", host.name))
        };
        let sockets = [open(hosts[0], addresses[0])?, open(hosts[1], addresses[1])?];
        Ok(Self { sockets, addresses: addresses.map(|address| SockAddr::from(std::net::SocketAddr::new(address, 0))) })
    }

    /// Whether a packet that one end sends arrives at the other.
    fn passes(&self, from: usize) -> Outcome<bool> {
        let failed = |error: io::Error| format!("protocol {EXPERIMENTAL}: {error}");
        let to = 1 - from;
        self.sockets[from].send_to(b"?", &self.addresses[to]).map_err(failed)?;
        match self.sockets[to].recv(&mut [std::mem::MaybeUninit::uninit(); 128]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Waits until both ends hear each other, or none does.
    fn becomes(&self, wanted: bool) -> Outcome {
        eventually(SOON, || {
            let heard = [self.passes(0)?, self.passes(1)?, self.passes(0)?, self.passes(1)?];
            check(heard == [wanted; 4], || format!("{heard:?}, should be {wanted}"))
        })
    }
}

/// More than are read as text: the daemon has them listed by what it asks for.
const CROWD: u16 = 6_000;

/// Has the node track many other connections, of a third pod.
fn crowd(node: &Node) -> Outcome {
    let tracked = "/proc/sys/net/netfilter/nf_conntrack";
    node.host.run("sh", &["-c", &format!("echo 900 > {tracked}_udp_timeout")])?;
    let (third, near) = (node.pod("third"), node.pod("near"));
    let to = near.address(FAMILIES[0]);
    let sent = third.host.enter(|| -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Refused by the other end, which nobody listens on.
        (10_000..10_000 + CROWD).for_each(|port| drop(socket.send_to(&[0], (to, port))));
        Ok(())
    });
    sent.map_err(|error| format!("many connections: {error}"))?;
    let count = node.host.run("cat", &[&format!("{tracked}_count")])?;
    let count: u16 = count.trim().parse().map_err(|error| format!("{count:?}: {error}"))?;
    check(count >= CROWD, || format!("{count} connections are tracked"))
}

#[test]
fn a_ping_and_another_protocol_without_ports_are_cut_and_go_on_when_they_are_allowed_again() {
    plays(false);
}

#[test]
fn they_are_found_among_many_connections_as_well() {
    plays(true);
}

fn plays(is_crowded: bool) {
    policed(1, |lab| {
        add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
        add_pod(&mut lab.nodes[0], "near", &[("app", "near")])?;
        if is_crowded {
            add_pod(&mut lab.nodes[0], "third", &[("app", "third")])?;
            crowd(&lab.nodes[0])?;
        }
        let (server, near) = (lab.nodes[0].pod("server"), lab.nodes[0].pod("near"));
        let mut pings = Vec::new();
        let mut others = Vec::new();
        for like in FAMILIES {
            let to = server.address(like);
            let mut ping = Command::new("ping");
            ping.args(["-n", "-i", INTERVAL, &to.to_string()]);
            pings.push(near.host.start("ping", &mut ping)?);
            others.push(Flow::open([&near.host, &server.host], [near.address(like), to])?);
        }
        for (refuses, step) in [(false, "before"), (true, "refused"), (false, "allowed again")] {
            match step {
                "refused" => put(lab, "nobody", &nobody())?,
                "allowed again" => take(lab, "nobody")?,
                _ => {}
            }
            pings.iter().try_for_each(if refuses { is_cut } else { flows }).map_err(|why| format!("{step}: {why}"))?;
            others.iter().try_for_each(|flow| flow.becomes(!refuses)).map_err(|why| format!("{step}: {why}"))?;
        }
        Ok(())
    });
}
