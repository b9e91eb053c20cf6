//! Proof of reachability: a random token is sent over TCP and comes back, with the source address that the other side
//! saw and the time that it took.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::host::Host;

/// The port that responders listen on.
pub const PORT: u16 = 7777;

/// How long an exchange may take: longer than a lost packet's first two retransmissions.
const PATIENCE: Duration = Duration::from_secs(4);

/// TCP sends a packet that was lost again after a second: what takes longer than this has lost one.
const RETRANSMISSION: Duration = Duration::from_millis(900);

/// How long an answer is waited for where none should come: less than a retransmission, so that it is one packet.
const UNANSWERED: Duration = Duration::from_millis(400);

/// What an exchange has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The source address that the other side saw.
    pub seen: IpAddr,
    /// From the sending of the token to its return, the connection standing.
    pub round_trip: Duration,
}

/// Answers exchanges on a host until it is dropped.
#[derive(Debug)]
pub struct Responder {
    host: Host,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts to answer on every address of the host, IPv4 and IPv6.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn start(host: &Host) -> Result<Self, String> {
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT));
        // A process that is being started elsewhere in this program holds what was open at that moment until it is.
        let listener = super::eventually(super::SOON, || {
            host.enter(listen).map_err(|error| format!("listen on {}: {error}", host.name))
        })?;
        // The socket stays in the namespace it was made in, wherever the thread is.
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                match stream.and_then(answer) {
                    Ok(true) => {}
                    Ok(false) => return,
                    // The peer went away in the middle: it will say so itself.
                    Err(_) => {}
                }
            }
        });
        Ok(Self { host: host.clone(), thread: Some(thread) })
    }
}

/// Sends the token back with what was seen; an empty token from the host itself ends the responder.
fn answer(mut stream: TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut token = String::new();
    BufReader::new(&stream).take(128).read_line(&mut token)?;
    if token == "\n" {
        return Ok(!peer.is_loopback());
    }
    stream.write_all(format!("{} {peer}\n", token.trim_end()).as_bytes())?;
    Ok(true)
}

impl Drop for Responder {
    fn drop(&mut self) {
        let farewell = || connect((Ipv6Addr::LOCALHOST, PORT).into()).and_then(|mut stream| stream.write_all(b"\n"));
        if self.host.enter(farewell).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // Its panic has been printed already.
            let _ = thread.join();
        }
    }
}

/// Exchanges a token with the responder at an address.
///
/// # Errors
/// A sentence that says how far it came.
pub fn exchange(from: &Host, to: IpAddr) -> Result<Exchange, String> {
    let attempt = || -> io::Result<Exchange> {
        let token = token()?;
        let begin = Instant::now();
        let mut stream = connect((to, PORT).into())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        stream.write_all(format!("{token}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&stream).take(256).read_line(&mut answer)?;
        let round_trip = start.elapsed();
        let seen = answer.trim_end().strip_prefix(&token).and_then(|rest| rest.trim_start().parse().ok());
        whole(begin.elapsed())?;
        let seen = seen.ok_or_else(|| io::Error::other(format!("sent {token}, got {:?} back", answer.trim_end())))?;
        Ok(Exchange { seen, round_trip })
    };
    from.enter(attempt).map_err(|error| format!("from {} to {to}: {error}", from.name))
}

/// That the first packet of a connection gets no answer: somebody drops it on the way. Nobody who listens takes so long.
///
/// # Errors
/// What came instead.
pub fn is_dropped(from: &Host, to: IpAddr) -> Result<(), String> {
    match from.enter(|| TcpStream::connect_timeout(&(to, PORT).into(), UNANSWERED)) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
        Err(error) => Err(format!("from {} to {to}: {error}, instead of no answer", from.name)),
        Ok(_) => Err(format!("from {} to {to}: connected, instead of no answer", from.name)),
    }
}

/// That no packet was lost in an exchange that took so long.
fn whole(took: Duration) -> io::Result<()> {
    match took < RETRANSMISSION {
        true => Ok(()),
        false => Err(io::Error::other(format!("it took {took:?}: a packet was lost on the way"))),
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, PATIENCE)
}

/// Sixteen random bytes, as hexadecimal digits.
pub(super) fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_that_took_as_long_as_a_retransmission_has_lost_a_packet() {
        assert!(whole(Duration::from_millis(800)).is_ok());
        assert!(whole(Duration::from_millis(1_010)).is_err());
    }
}
