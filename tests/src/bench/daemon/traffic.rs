//! TCP between pods on two nodes: one byte to and fro, and as much as goes.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use serde::Serialize;

use super::layout::{Layout, Pair};
use crate::statistics::{median, rounded};

/// Peers of each node: the one that is there, and those that could be.
const PEERS: u32 = 100;

/// How long one connection may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Linux's own choice. A machine may have another default: one that paces by its own clock (BBR) measures that.
const CONGESTION: &str = "cubic";

/// What is sent at once when it is as much as goes.
const BLOCK: usize = 128 * 1024;

/// What is measured of a layout.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Traffic {
    /// Which.
    pub(crate) layout: Layout,
    /// A byte to the other pod and back, in microseconds: the median of the rounds.
    pub(crate) round_trip_us: f64,
    /// The median round trip of each round.
    pub(crate) round_trips_us: Vec<f64>,
    /// What arrives, in Gbit/s: the median of the rounds.
    pub(crate) gigabits: f64,
    /// Each round.
    pub(crate) all_gigabits: Vec<f64>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How often each layout has its turn.
    pub(crate) rounds: usize,
    /// How long each of the two takes each time.
    pub(crate) slice: Duration,
}

/// Lets the layouts take turns.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(effort: Effort, podwired: &Path, shared: &Path) -> Result<Vec<Traffic>, String> {
    let mut configurations = None;
    let mut pairs = Vec::new();
    for layout in Layout::ALL {
        pairs.push(Pair::new(layout, PEERS, podwired, shared, &mut configurations)?);
    }
    let mut rounds = vec![(Vec::new(), Vec::new()); pairs.len()];
    for pair in &pairs {
        // What is learnt and allocated once is not measured.
        round_trip(pair, effort.slice / 4)?;
    }
    for round in 0..effort.rounds {
        for place in crate::race::turn(round, pairs.len()) {
            rounds[place].0.push(round_trip(&pairs[place], effort.slice)?);
        }
        for place in crate::race::turn(round, pairs.len()) {
            rounds[place].1.push(throughput(&pairs[place], effort.slice)?);
        }
    }
    let traffic = pairs.iter().zip(rounds).map(|(pair, (round_trips_us, all_gigabits))| Traffic {
        layout: pair.layout,
        round_trip_us: median(&round_trips_us).unwrap_or_default(),
        round_trips_us,
        gigabits: median(&all_gigabits).unwrap_or_default(),
        all_gigabits,
    });
    Ok(traffic.collect())
}

/// A connection from the first pod to the second: the listener's end, and the other's.
fn connect(pair: &Pair) -> Result<(TcpStream, TcpStream), String> {
    let ([near, far], [_, address]) = (&pair.pods, pair.addresses);
    let connect = || -> std::io::Result<(TcpStream, TcpStream)> {
        let listener = far.enter(|| TcpListener::bind(SocketAddr::new(address, 0)))?;
        let address = listener.local_addr()?;
        let stream = near.enter(|| TcpStream::connect_timeout(&address, PATIENCE))?;
        let (accepted, _) = listener.accept()?;
        for end in [&stream, &accepted] {
            end.set_nodelay(true)?;
            setsockopt(end, sockopt::TcpCongestion, &OsString::from(CONGESTION))?;
            end.set_read_timeout(Some(PATIENCE))?;
        }
        Ok((accepted, stream))
    };
    connect().map_err(|error| format!("connect pods over {}: {error}", pair.layout.name()))
}

/// The median time of a byte to and fro, in microseconds. Both ends are on one core: what is measured is then the work
/// that is done for a packet, and not how long an idle core takes to wake up, which is longer and differs from run to run.
fn round_trip(pair: &Pair, slice: Duration) -> Result<f64, String> {
    let (mut far, mut near) = connect(pair)?;
    let echo = on(Core::Last, move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).and_then(|()| far.write_all(&byte)).is_ok() {}
        Ok(())
    });
    let trips = on(Core::Last, move || {
        let (mut times, end) = (Vec::new(), Instant::now() + slice);
        while Instant::now() < end {
            let (start, mut byte) = (Instant::now(), [1]);
            near.write_all(&byte).and_then(|()| near.read_exact(&mut byte))?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(times)
    });
    let name = pair.layout.name();
    let times = done(trips).map_err(|error| format!("a byte over {name}: {error}"))?;
    done(echo).map_err(|error| format!("a byte back over {name}: {error}"))?;
    Ok(median(&times).map(rounded).unwrap_or_default())
}

/// What arrives in the second pod, in Gbit/s. Each end has a core of its own, as if each node were a machine.
fn throughput(pair: &Pair, slice: Duration) -> Result<f64, String> {
    let (mut far, mut near) = connect(pair)?;
    let sink = on(Core::First, move || {
        let (mut buffer, mut count) = (vec![0; BLOCK], 0_u64);
        let start = Instant::now();
        loop {
            match far.read(&mut buffer) {
                Ok(0) => return Ok((count, start.elapsed())),
                Ok(read) => count += read as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    });
    let source = on(Core::Last, move || {
        let (block, end) = (vec![0; BLOCK], Instant::now() + slice);
        while Instant::now() < end {
            near.write_all(&block)?;
        }
        Ok(())
    });
    let name = pair.layout.name();
    done(source).map_err(|error| format!("send over {name}: {error}"))?;
    let (count, took) = done(sink).map_err(|error| format!("receive over {name}: {error}"))?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a second or two")]
    let bits = count as f64 * 8.0;
    Ok(rounded(bits / took.as_secs_f64() / 1e9))
}

/// One of the machine's cores. Where the kernel puts two threads decides more than what is compared.
#[derive(Clone, Copy)]
enum Core {
    First,
    Last,
}

/// Does work on a thread that stays on a core.
fn on<T: Send + 'static>(
    core: Core,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> JoinHandle<std::io::Result<T>> {
    thread::spawn(move || {
        let own = Pid::from_raw(0);
        let cores = sched_getaffinity(own)?;
        let mut all = (0..CpuSet::count()).filter(|core| cores.is_set(*core) == Ok(true));
        let chosen = match core {
            Core::First => all.next(),
            Core::Last => all.next_back(),
        };
        let mut one = CpuSet::new();
        one.set(chosen.unwrap_or_default())?;
        sched_setaffinity(own, &one)?;
        work()
    })
}

/// What a thread has come to.
fn done<T>(thread: JoinHandle<std::io::Result<T>>) -> Result<T, String> {
    thread.join().map_err(|_| "it panicked")?.map_err(|error| error.to_string())
}
