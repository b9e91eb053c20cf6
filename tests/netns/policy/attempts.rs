//! Many first packets at once, by TCP, UDP and SCTP, and which of them arrive: what is allowed is answered by the pod that it was
//! meant for, what is refused is heard of no more.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::Outcome;
use podwire_tests::lab::sctp::{Inits, send_init};
use socket2::{Domain, Socket, Type};

use crate::plugin::hand_made::Server;

/// Where a pod answers whatever port it is asked at.
const ANSWERS: u16 = 7;

/// Once all has come that should come, how long is listened for what should not: many times what a packet takes.
const SILENCE: Duration = Duration::from_millis(150);

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(5);

/// A pod that answers at all ports of TCP and UDP with its name, and takes note of what SCTP begins.
pub(super) struct Answering {
    name: String,
    inits: Inits,
    _server: Server,
}

impl Answering {
    pub(super) fn start(host: &Host) -> Outcome<Self> {
        let redirect = format!(
            "table inet answers {{ chain before {{ type nat hook prerouting priority dstnat; \
             meta l4proto {{ tcp, udp }} redirect to :{ANSWERS}; }}; }}"
        );
        host.run("nft", &[&redirect])?;
        Self::start_at(host, ANSWERS)
    }

    /// One that answers at a port only, such as a node, which translates what passes it as well.
    pub(super) fn start_at(host: &Host, port: u16) -> Outcome<Self> {
        let server = Server::start(host, &host.name, Ipv6Addr::UNSPECIFIED, port)?;
        Ok(Self { name: host.name.clone(), inits: Inits::listen(host)?, _server: server })
    }

    /// Who answers.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// A connection to begin.
#[derive(Debug, Clone)]
pub(super) struct Attempt<'a> {
    pub(super) from: &'a Host,
    /// TCP, UDP or SCTP.
    pub(super) protocol: &'a str,
    /// Where it is sent.
    pub(super) to: SocketAddr,
    /// Who is to answer, by the place among those who do.
    pub(super) at: usize,
    /// Whether it is to arrive.
    pub(super) arrives: bool,
}

/// What is waited for.
enum Begun {
    Tcp(Socket, Vec<u8>),
    Udp(UdpSocket, Vec<u8>),
    Sctp(u16),
}

/// Begins all of them at once. What became otherwise than it should: the places of those attempts. What should arrive is waited
/// for so long.
///
/// # Errors
/// When one cannot be begun.
pub(super) fn otherwise(
    answering: &mut [Answering],
    attempts: &[Attempt<'_>],
    patience: Duration,
) -> Outcome<Vec<usize>> {
    let mut begun = attempts.iter().map(begin).collect::<Outcome<Vec<_>>>()?;
    let start = Instant::now();
    let mut complete_since = None;
    loop {
        let mut differ = Vec::new();
        for (place, (attempt, begun)) in attempts.iter().zip(&mut begun).enumerate() {
            if arrived(&mut answering[attempt.at], attempt, begun)? != attempt.arrives {
                differ.push(place);
            }
        }
        // What has arrived against the rules stays so.
        let missing = differ.iter().any(|place| attempts[*place].arrives);
        if !missing {
            let since = *complete_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= SILENCE {
                return Ok(differ);
            }
        } else if start.elapsed() >= patience {
            return Ok(differ);
        }
        thread::sleep(LOOK);
    }
}

fn begin(attempt: &Attempt<'_>) -> Outcome<Begun> {
    // An INIT is known by its port: none is used twice, so that none is taken for an earlier one.
    static PORTS: AtomicU16 = AtomicU16::new(10_000);
    if attempt.protocol == "SCTP" {
        let port = PORTS.fetch_add(1, Ordering::Relaxed);
        return send_init(attempt.from, port, attempt.to).map(|()| Begun::Sctp(port));
    }
    let open = || -> io::Result<Begun> {
        if attempt.protocol == "UDP" {
            let socket = UdpSocket::bind((unspecified(attempt.to.ip()), 0))?;
            socket.set_nonblocking(true)?;
            socket.connect(attempt.to)?;
            socket.send(b"?")?;
            return Ok(Begun::Udp(socket, Vec::new()));
        }
        let domain = if attempt.to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM.cloexec(), None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&attempt.to.into()) {
            // EINPROGRESS: what becomes of it is seen when it is read from.
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
            _ => Ok(Begun::Tcp(socket, Vec::new())),
        }
    };
    attempt.from.enter(open).map_err(|error| format!("{attempt:?}: {error}"))
}

/// Whether it has arrived by now, where it should.
fn arrived(answering: &mut Answering, attempt: &Attempt<'_>, begun: &mut Begun) -> Outcome<bool> {
    let (read, heard) = match begun {
        Begun::Sctp(port) => return Ok(answering.inits.heard()?.contains(port)),
        Begun::Tcp(socket, heard) => (read_all(heard, |buffer| socket.read(buffer)), heard),
        Begun::Udp(socket, heard) => (read_all(heard, |buffer| socket.recv(buffer)), heard),
    };
    read.map_err(|error| format!("{attempt:?}: {error}, instead of an answer or silence"))?;
    let heard = String::from_utf8_lossy(heard);
    match heard.split_once(' ') {
        None => Ok(false),
        Some((name, _)) if name == answering.name => Ok(true),
        Some(_) => Err(format!("{attempt:?}: {heard} has answered, not {}", answering.name)),
    }
}

/// Reads what is there.
fn read_all(heard: &mut Vec<u8>, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut buffer = [0; 128];
    loop {
        match read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => heard.extend(&buffer[..length]),
            // Not connected yet.
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&error.kind()) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() }
}
