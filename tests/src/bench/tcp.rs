//! TCP between two hosts: one byte to and fro, as much as goes, and one connection after the other. What may not live here: between
//! whom, and in which turn.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use podwire_tests::lab::host::Host;

use crate::statistics::{median, rounded};

/// How long one connection may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Linux's own choice. A machine may have another default: one that paces by its own clock (BBR) measures that.
const CONGESTION: &str = "cubic";

/// What is sent at once when it is as much as goes.
const BLOCK: usize = 128 * 1024;

/// A connection: the listener's end, and the other's.
pub(crate) type Ends = (TcpStream, TcpStream);

/// A connection from one host to an address of another.
///
/// # Errors
/// What was refused.
pub(crate) fn connect(near: &Host, far: &Host, address: SocketAddr) -> io::Result<Ends> {
    let listener = far.enter(|| TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    let stream = near.enter(|| TcpStream::connect_timeout(&address, PATIENCE))?;
    let (accepted, _) = listener.accept()?;
    for end in [&stream, &accepted] {
        end.set_nodelay(true)?;
        setsockopt(end, sockopt::TcpCongestion, &OsString::from(CONGESTION))?;
        end.set_read_timeout(Some(PATIENCE))?;
    }
    Ok((accepted, stream))
}

/// The median time of a byte to and fro, in microseconds. Both ends are on one core: what is measured is then the work
/// that is done for a packet, and not how long an idle core takes to wake up, which is longer and differs from run to run.
///
/// # Errors
/// What did not work.
pub(crate) fn round_trip((mut far, mut near): Ends, slice: Duration) -> Result<f64, String> {
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
    let times = done(trips).map_err(|error| format!("a byte: {error}"))?;
    done(echo).map_err(|error| format!("a byte back: {error}"))?;
    Ok(median(&times).map(rounded).unwrap_or_default())
}

/// What arrives at the listener's end, in Gbit/s. Each end has a core of its own, as if each were a machine.
///
/// # Errors
/// What did not work.
pub(crate) fn throughput((mut far, mut near): Ends, slice: Duration) -> Result<f64, String> {
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
    done(source).map_err(|error| format!("send: {error}"))?;
    let (count, took) = done(sink).map_err(|error| format!("receive: {error}"))?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a second or two")]
    let bits = count as f64 * 8.0;
    Ok(rounded(bits / took.as_secs_f64() / 1e9))
}

/// How many connections a second are made, one after the other, each by its handshake and an end without a wait. Both ends are on one core.
///
/// # Errors
/// What did not work.
pub(crate) fn connections(near: &Host, far: &Host, address: SocketAddr, slice: Duration) -> Result<f64, String> {
    let failed = |error: io::Error| format!("new connections to {address}: {error}");
    let listener = far.enter(|| TcpListener::bind(address)).map_err(failed)?;
    let made = near.enter(|| {
        done(on(Core::Last, move || {
            let (start, mut count) = (Instant::now(), 0_u32);
            while start.elapsed() < slice {
                let stream = TcpStream::connect(address)?;
                let (accepted, _) = listener.accept()?;
                for end in [&stream, &accepted] {
                    // It ends by a reset: no port waits for late packets.
                    setsockopt(end, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
                }
                count += 1;
            }
            Ok(f64::from(count) / start.elapsed().as_secs_f64())
        }))
    });
    made.map(rounded).map_err(|error| format!("new connections to {address}: {error}"))
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
