//! A stream of packets in which a loss shows: numbered datagrams, a thousand a second, each of them sent back.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::host::Host;

/// From one packet to the next.
const INTERVAL: Duration = Duration::from_millis(1);

/// Room for what comes while a thread of a busy machine waits for its turn: some thousand packets.
const ROOM: usize = 8 << 20;

/// How long a thread waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A stream of which nothing comes back for so long is cut.
const SILENCE: Duration = Duration::from_millis(250);

/// How long the last packets may take.
const LAST: Duration = Duration::from_secs(2);

/// A stream from one host to another and back, until it is finished or dropped.
#[derive(Debug)]
pub struct Stream {
    sending: Arc<AtomicBool>,
    receiving: Arc<AtomicBool>,
    sender: Option<JoinHandle<u64>>,
    mirror: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<BTreeSet<u64>>>,
    heard: Arc<AtomicU64>,
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// How many packets were sent.
    pub sent: u64,
    /// The numbers of those that did not come back.
    pub lost: Vec<u64>,
}

impl Stream {
    /// Starts to send from a host to an address of another, which sends back.
    ///
    /// # Errors
    /// When the sockets cannot be had.
    pub fn start(from: &Host, to: &Host, address: IpAddr) -> Result<Self, String> {
        let mirror = to.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(prepare));
        let listening = |error| format!("listen on {}: {error}", to.name);
        let mirror = mirror.map_err(listening)?;
        let port = mirror.local_addr().map_err(listening)?.port();
        let open = || {
            let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).and_then(prepare)?;
            socket.connect((address, port))?;
            let other = socket.try_clone()?;
            Ok::<_, io::Error>((socket, other))
        };
        let (sender, receiver) = from.enter(open).map_err(|error| format!("send from {}: {error}", from.name))?;
        let (sending, receiving) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let heard = Arc::new(AtomicU64::new(0));
        let sender = thread::spawn({
            let sending = sending.clone();
            move || send(&sender, &sending)
        });
        let mirror = thread::spawn({
            let receiving = receiving.clone();
            move || reflect(&mirror, &receiving)
        });
        let receiver = thread::spawn({
            let (receiving, heard) = (receiving.clone(), heard.clone());
            move || receive(&receiver, &receiving, &heard)
        });
        let (sender, mirror, receiver) = (Some(sender), Some(mirror), Some(receiver));
        Ok(Self { sending, receiving, sender, mirror, receiver, heard })
    }

    /// Waits until some more packets have come back: the stream flows.
    ///
    /// # Errors
    /// When it does not.
    pub fn flows(&self) -> Result<(), String> {
        let before = self.heard.load(Ordering::Relaxed);
        super::eventually(super::SOON, || match self.heard.load(Ordering::Relaxed) - before {
            0..20 => Err("the stream does not flow".into()),
            _ => Ok(()),
        })
    }

    /// Waits until nothing comes back any more, although it is still sent.
    ///
    /// # Errors
    /// When something does.
    pub fn is_cut(&self) -> Result<(), String> {
        super::eventually(super::SOON, || {
            let before = self.heard.load(Ordering::Relaxed);
            // Silence can only be waited for.
            thread::sleep(SILENCE);
            match self.heard.load(Ordering::Relaxed) - before {
                0 => Ok(()),
                more => Err(format!("{more} packets of the stream came back within {SILENCE:?}")),
            }
        })
    }

    /// Ends the sending, and waits for the last packets.
    ///
    /// # Errors
    /// When a thread has panicked.
    pub fn finish(mut self) -> Result<Count, String> {
        self.sending.store(false, Ordering::Relaxed);
        let sender = self.sender.take().ok_or("no sender")?;
        let sent = sender.join().map_err(|_| "the sender has panicked")?;
        let deadline = Instant::now() + LAST;
        while self.heard.load(Ordering::Relaxed) < sent && Instant::now() < deadline {
            thread::sleep(INTERVAL);
        }
        self.receiving.store(false, Ordering::Relaxed);
        let receiver = self.receiver.take().ok_or("no receiver")?;
        let heard = receiver.join().map_err(|_| "the receiver has panicked")?;
        Ok(Count { sent, lost: (0..sent).filter(|number| !heard.contains(number)).collect() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.sending.store(false, Ordering::Relaxed);
        self.receiving.store(false, Ordering::Relaxed);
        // A panic has been printed already.
        let _ = self.sender.take().map(JoinHandle::join);
        let _ = self.mirror.take().map(JoinHandle::join);
        let _ = self.receiver.take().map(JoinHandle::join);
    }
}

fn prepare(socket: UdpSocket) -> io::Result<UdpSocket> {
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

/// One that is late is made up for: the number sent follows from the time that has gone by.
fn send(socket: &UdpSocket, sending: &AtomicBool) -> u64 {
    let start = Instant::now();
    let mut number = 0_u64;
    while sending.load(Ordering::Relaxed) {
        // A packet that the host itself refuses to send is a lost one; the number says so.
        let _ = socket.send(&number.to_be_bytes());
        number += 1;
        let due = start + INTERVAL * u32::try_from(number).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    number
}

fn reflect(socket: &UdpSocket, receiving: &AtomicBool) {
    let mut packet = [0; 8];
    while receiving.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&packet[..length], from);
        }
    }
}

fn receive(socket: &UdpSocket, receiving: &AtomicBool, heard: &AtomicU64) -> BTreeSet<u64> {
    let (mut numbers, mut packet) = (BTreeSet::new(), [0; 8]);
    loop {
        match socket.recv(&mut packet) {
            Ok(_) => {
                numbers.insert(u64::from_be_bytes(packet));
                heard.store(numbers.len() as u64, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if !receiving.load(Ordering::Relaxed) {
                    return numbers;
                }
            }
            // An error that came back for an earlier packet: that one is lost.
            Err(_) => {}
        }
    }
}
