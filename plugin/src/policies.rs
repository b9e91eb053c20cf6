//! NetworkPolicy at the start of a pod: ADD asks the daemon, and returns once the policies of the pod are in force. Where the daemon does
//! not say so in time, the pod is one whose policies are not known, and what the conflist says of such pods holds for it until the
//! daemon has spoken. DEL never asks.
//!
//! What may not live here: what a policy means. Only the daemon knows.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use podwire_attachment::log;
use podwire_conf::question::{self, Answer};
use podwire_conf::rules::isolation;
use podwire_conf::{NetworkPolicy, Unknown, defaults};
use podwire_kernel::Socket;

use crate::cni::{Code, Failure};

/// The longest answer, in bytes.
const LONGEST: u64 = 4096;

/// A question that the daemon works at, while the pod is attached.
pub(crate) struct Asked<'a> {
    policy: NetworkPolicy,
    /// A name of the pod, for people.
    pod: &'a str,
    addresses: Vec<IpAddr>,
    until: Instant,
    sent: Result<UnixStream, String>,
}

/// Asks for the policies of a pod that has its addresses in the ledger.
pub(crate) fn ask(policy: NetworkPolicy, pod: &str, addresses: Vec<IpAddr>) -> Asked<'_> {
    let (until, sent) = (Instant::now() + policy.timeout, send(&addresses, policy.timeout));
    Asked { policy, pod, addresses, until, sent }
}

fn send(addresses: &[IpAddr], timeout: Duration) -> Result<UnixStream, String> {
    let place = Path::new(defaults::RUN_DIRECTORY).join(defaults::STATUS_SOCKET);
    let sent = connect(&place).and_then(|mut stream| {
        stream.set_write_timeout(Some(timeout))?;
        stream.write_all(format!("{}\n", question::attached(addresses)).as_bytes())?;
        Ok(stream)
    });
    sent.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => "podwired does not run".into(),
        ErrorKind::WouldBlock => "podwired hangs: its queue of questions is full".into(),
        _ => format!("ask podwired at {}: {error}", place.display()),
    })
}

/// Connects, unless the queue of those who wait to be accepted is full: for a place in that one would wait as long as the daemon
/// hangs.
fn connect(place: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(place)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

impl Asked<'_> {
    /// Waits until the policies of the pod are in force, or until the daemon has had its time.
    ///
    /// # Errors
    /// When the pod could not be isolated either.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let Self { policy, pod, addresses, until, sent } = self;
        let Err(why) = sent.and_then(|stream| answer(stream, until)) else { return Ok(()) };
        if policy.unknown == Unknown::Allow {
            log::note(format_args!(
                "pod {pod} has its network before its policies are in force, as networkPolicy.unknown says: {why}"
            ));
            return Ok(());
        }
        isolate(&addresses)?;
        log::note(format_args!(
            "pod {pod} reaches nothing but its node until podwired has its policies in force: {why}"
        ));
        Ok(())
    }
}

/// Reads the answer: `Ok` where the policies are in force, otherwise why they are not.
fn answer(stream: UnixStream, until: Instant) -> Result<(), String> {
    let (mut answer, mut reader) = (Vec::new(), stream.take(LONGEST));
    while !answer.ends_with(b"\n") {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut bytes = [0; 512];
        match reader.get_ref().set_read_timeout(Some(left)).and_then(|()| reader.read(&mut bytes)) {
            Ok(0) => return Err("podwired has ended, or gives no answer".into()),
            Ok(length) => answer.extend(bytes.iter().take(length)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("podwired has not had them in force in time".into());
            }
            Err(error) => return Err(format!("read the answer of podwired: {error}")),
        }
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer { in_force: true, .. }) => Ok(()),
        Ok(Answer { refused: Some(why), .. }) => Err(why),
        Ok(_) => Err("the answer of podwired is of another version".into()),
        Err(error) => Err(format!("read the answer of podwired: {error}")),
    }
}

/// Isolates addresses by the maps of the daemon's table, as it does itself with pods that it does not know.
fn isolate(addresses: &[IpAddr]) -> Result<(), Failure> {
    let requests =
        isolation::isolate(addresses).iter().flat_map(|entries| entries.add(defaults::POLICY_TABLE)).collect();
    let mut socket = Socket::netfilter()?;
    socket.transact(requests).map_err(|error| match error.is_gone() {
        true => Failure::new(
            Code::TryAgain,
            format!("this node is not ready for policies: table inet {} is missing", defaults::POLICY_TABLE),
            "podwired sets it up when it starts; `podwired status` shows its problems",
        ),
        false => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, bind, listen};

    use super::*;

    #[test]
    fn a_daemon_that_accepts_nobody_keeps_nobody_waiting() {
        let place = std::env::temp_dir().join(format!("podwire-full-{}.sock", std::process::id()));
        let listener = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&place).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let mut connected = Vec::new();
        let full = loop {
            match connect(&place) {
                Ok(stream) => connected.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock, "{} are connected", connected.len());
        std::fs::remove_file(&place).unwrap();
        assert_eq!(connect(&place).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
