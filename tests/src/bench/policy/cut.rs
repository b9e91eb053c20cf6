//! A policy that refuses, beside many tracked connections: when the last packet of one that exists arrives, and of new ones;
//! and whether the next change has to wait while the connections are judged.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::change;
use super::cluster::{self, Size};
use super::commits::Commits;
use super::stage::{Pod, Stage};
use crate::statistics::Summary;

/// The ports that the stream and the new connections go to.
const STREAM: u16 = 7_000;
const NEW: u16 = 7_001;

/// What the connections that are only there go to: these ports and those behind them.
const FIRST: u16 = 10_000;
const PORTS: u32 = 50_000;

/// Between two packets.
const EVERY: Duration = Duration::from_micros(500);

/// How long it is waited for a last packet: what comes later was not cut. The fast path goes on for a second with what it remembers.
const WATCHED: Duration = Duration::from_millis(1_500);

/// After so long the fast path has the stream, too: a UDP flow is assured once it has been answered for two seconds (`nf_conntrack_proto_udp.c`).
const ASSURED: Duration = Duration::from_millis(2_300);

/// After the policy the next change comes this much later.
const NEXT: Duration = Duration::from_millis(3);

/// Whose the tracked connections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whose {
    /// Those of pods that the policy does not select.
    Others,
    /// All of the pod that it isolates: every one is refused.
    Refused,
}

/// What is measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cut {
    /// Tracked connections.
    pub(crate) flows: u32,
    /// Whose they are.
    pub(crate) whose: Whose,
    /// From the event to the last packet of a connection that exists.
    pub(crate) existing: Summary,
    /// From the event to the last packet of a new connection.
    pub(crate) new: Summary,
    /// A pod comes right behind the policy: from its event to the commit.
    pub(crate) next: Summary,
    /// The slowest of each, in milliseconds.
    pub(crate) slowest_ms: [f64; 3],
}

/// When a packet of each sort arrived last.
#[derive(Debug, Default)]
struct Arrived(Mutex<[Option<Instant>; 2]>);

impl Arrived {
    fn note(&self, place: usize) {
        if let Some(last) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
            *last = Some(Instant::now());
        }
    }

    fn last(&self, place: usize) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).copied().flatten()
    }
}

/// Lets the policy come and go.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(
    size: Size,
    (flows, whose): (u32, Whose),
    rounds: u32,
    podwired: &Path,
    shared: &Path,
) -> Result<Cut, String> {
    let stage = Stage::new(size, podwired, &shared.join(format!("cut-{whose:?}")))?;
    stage.put_in_force()?;
    let [.., one, other, from, to] = &stage.pods[..] else { return Err("no pods".into()) };
    match whose {
        Whose::Others => fill(&stage, one, other, flows)?,
        Whose::Refused => fill(&stage, from, to, flows)?,
    }
    let commits = Commits::listen(&stage.host)?;
    let (mut existing, mut new, mut next) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let address: IpAddr =
            to.addresses.get(round as usize % 2).and_then(|text| text.parse().ok()).ok_or("no address")?;
        let arrived = Arc::new(Arrived::default());
        let stop = Arc::new(AtomicBool::new(false));
        let sockets = receive(to, &arrived, &stop)?;
        let outcome = thread::scope(|scope| {
            let sender = scope.spawn(|| from.host.enter(|| send(address, &stop)));
            let played = play(&stage, &commits, size, round, &arrived);
            stop.store(true, Ordering::Relaxed);
            let sent = sender.join().map_err(|_| "the sender panicked".to_owned())?;
            sent.map_err(|error| format!("send to {address}: {error}"))?;
            played
        });
        for socket in sockets {
            socket.join().map_err(|_| "a receiver panicked")?;
        }
        let [one, two, three] = outcome?;
        existing.push(one);
        new.push(two);
        next.push(three);
    }
    let of = |times: &[Duration]| Summary::of(times).ok_or("nothing was cut");
    let slowest =
        |times: &[Duration]| crate::statistics::rounded(times.iter().max().map_or(0.0, Duration::as_secs_f64) * 1e3);
    let slowest_ms = [slowest(&existing), slowest(&new), slowest(&next)];
    Ok(Cut { flows, whose, existing: of(&existing)?, new: of(&new)?, next: of(&next)?, slowest_ms })
}

/// One round: the policy comes, is watched, and goes.
fn play(stage: &Stage, commits: &Commits, size: Size, round: u32, arrived: &Arrived) -> Result<[Duration; 3], String> {
    let flowing = |since: Instant| (0..2).all(|place| arrived.last(place).is_some_and(|last| last > since));
    let wait = |since: Instant| {
        podwire_tests::lab::eventually(podwire_tests::lab::SOON, || match flowing(since) {
            true => Ok(()),
            false => Err("packets do not arrive without the policy".into()),
        })
    };
    wait(Instant::now())?;
    thread::sleep(ASSURED);
    let policy = refusing();
    let start = stage.api.tell("networkpolicies", "ADDED", &policy)?;
    thread::sleep(NEXT);
    let pod = change::as_others(size, 5_000 + round);
    commits.drain();
    let event = stage.api.tell("pods", "ADDED", &pod)?;
    let next = commits.wait_for(change::address(&pod)?)? - event;
    thread::sleep(WATCHED);
    let ended = |place| arrived.last(place).unwrap_or(start).saturating_duration_since(start);
    let times = [ended(0), ended(1), next];
    stage.api.tell("pods", "DELETED", &pod)?;
    let gone = stage.api.tell("networkpolicies", "DELETED", &policy)?;
    wait(gone)?;
    Ok(times)
}

fn refusing() -> Value {
    let (namespace, _) = cluster::own(cluster::OWN - 1);
    let metadata = json!({"name": "refuse", "namespace": namespace, "uid": "refuse", "resourceVersion": "1"});
    json!({"metadata": metadata, "spec": {"podSelector": {"matchLabels": {"group": "free"}}, "policyTypes": ["Ingress"]}})
}

/// Has the kernel track connections that nobody answers, for as long as it takes.
fn fill(stage: &Stage, from: &Pod, to: &Pod, flows: u32) -> Result<(), String> {
    let tracked = "/proc/sys/net/netfilter/nf_conntrack";
    stage.host.run("sh", &["-c", &format!("echo 900 > {tracked}_udp_timeout")])?;
    let addresses: Vec<IpAddr> = to.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    let sent = from.host.enter(|| -> io::Result<()> {
        let mut left = flows;
        while left > 0 {
            for address in &addresses {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
                let count = left.min(PORTS);
                for place in 0..count {
                    let port = FIRST.saturating_add(u16::try_from(place).unwrap_or(u16::MAX));
                    // Refused by the other end, which nobody listens on.
                    let _ = socket.send_to(&[0], SocketAddr::new(mapped(*address), port));
                }
                left -= count;
            }
        }
        Ok(())
    });
    sent.map_err(|error| format!("fill the table of connections: {error}"))?;
    let read = |name: &str| -> Result<u32, String> {
        let text = stage.host.run("cat", &[&format!("{tracked}_{name}")])?;
        text.trim().parse().map_err(|error| format!("{tracked}_{name}: {error}"))
    };
    let (count, most) = (read("count")?, read("max")?);
    if count < flows - flows / 20 {
        Err(format!("{count} of {flows} connections are tracked, at most {most}"))
    } else {
        Ok(())
    }
}

/// An address as a socket of both versions has it.
fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

/// Receives on both ports, until it is told to stop; the stream is answered.
fn receive(to: &Pod, arrived: &Arc<Arrived>, stop: &Arc<AtomicBool>) -> Result<Vec<thread::JoinHandle<()>>, String> {
    let mut threads = Vec::new();
    for (place, port) in [STREAM, NEW].into_iter().enumerate() {
        let socket = to.host.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)));
        let socket = socket.map_err(|error| format!("receive on port {port}: {error}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(|error| error.to_string())?;
        let (arrived, stop) = (arrived.clone(), stop.clone());
        threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                    arrived.note(place);
                    let _ = (place == 0).then(|| socket.send_to(&[1], from));
                }
            }
        }));
    }
    Ok(threads)
}

/// Sends on one connection and on new ones, until it is told to stop. Whoever enters is in the pod.
fn send(address: IpAddr, stop: &AtomicBool) -> io::Result<()> {
    let open = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let stream = open()?;
    while !stop.load(Ordering::Relaxed) {
        // Nobody may listen yet.
        let _ = stream.send_to(&[0], SocketAddr::new(mapped(address), STREAM));
        let _ = open()?.send_to(&[0], SocketAddr::new(mapped(address), NEW));
        thread::sleep(EVERY);
    }
    Ok(())
}
