//! A quick look at what the overlay is made of, many times a second: how long it is not as it was. That it is as it was in
//! every other respect is looked at by other programs than ours, afterwards (`scene::state`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podwire_kernel::link::{self, vni_filter};
use podwire_kernel::{Socket, address, neighbour, nexthop, route};
use podwire_tests::lab::SOON;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::Outcome;

/// The settings of the kernel that belong to it.
const SETTINGS: [&str; 5] = [
    "ipv4/ip_forward",
    "ipv4/conf/podwire.1/forwarding",
    "ipv4/conf/podwire.1/rp_filter",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/podwire.1/disable_ipv6",
];

/// What the overlay is made of, a line for each part.
pub(crate) fn glance(host: &Host) -> Outcome<Vec<String>> {
    host.enter(|| Socket::route().and_then(|mut socket| look(&mut socket)).map_err(|error| error.to_string()))
}

fn look(socket: &mut Socket) -> podwire_kernel::Result<Vec<String>> {
    match parts(socket) {
        // Between two questions.
        Err(error) if error.is_gone() => Ok(vec!["the device goes".into()]),
        parts => parts,
    }
}

fn parts(socket: &mut Socket) -> podwire_kernel::Result<Vec<String>> {
    let Some(mut device) = link::by_name(socket, "podwire.1")? else { return Ok(vec!["no device".into()]) };
    let index = std::mem::take(&mut device.index);
    let mut lines = vec![format!("{device:?}")];
    lines.extend(vni_filter::list(socket, index)?.iter().map(|vni| format!("VNI {vni}")));
    lines.extend(address::list(socket, Some(index))?.iter().map(ToString::to_string));
    lines.extend(neighbour::list(socket, index)?.iter().map(ToString::to_string));
    lines.extend(nexthop::list(socket, 112)?.0.iter().map(|nexthop| format!("{nexthop} {}", nexthop.device == index)));
    let named = |route: &route::Route| route.to_string().replace(&format!("dev {index}"), "dev podwire.1");
    lines.extend(route::list_bare(socket, 112)?.iter().map(named));
    let setting = |path: &&str| format!("{path} {:?}", std::fs::read_to_string(format!("/proc/sys/net/{path}")).ok());
    lines.extend(SETTINGS.iter().map(setting));
    lines.sort();
    Ok(lines)
}

/// How long the overlay of a host was damaged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Damaged {
    /// By the clock. On a busy machine the damage may come and go between two looks: zero.
    pub(crate) took: Duration,
    /// How many times slower than alone on the machine who never waits for anything but the processor was meanwhile: 1 when
    /// nobody else wanted it.
    pub(crate) slowed: f64,
}

impl Damaged {
    /// Whether it was no longer than a limit for a machine that has nothing else to do.
    pub(crate) fn within(&self, limit: Duration) -> bool {
        self.took <= limit.mul_f64(self.slowed)
    }
}

/// How long the calling thread has been on a processor.
fn on_processor() -> Outcome<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(|error| error.to_string())?;
    let first = text.split(' ').next().and_then(|text| text.parse().ok());
    first.map(Duration::from_nanos).ok_or(text)
}

/// How busy the machine is while something lasts, as a thread feels it that does not sleep: by the time that it was ready to run
/// and had no processor. What it waits for in the kernel, a lock that podwired holds for example, does not count.
pub(crate) struct Contention {
    ran: Duration,
    waited: Duration,
}

impl Contention {
    /// From now on.
    pub(crate) fn begin() -> Outcome<Self> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(|error| error.to_string())?;
        let mut numbers = text.split_whitespace().map(|text| text.parse().map(Duration::from_nanos));
        match (numbers.next(), numbers.next()) {
            (Some(Ok(ran)), Some(Ok(waited))) => Ok(Self { ran, waited }),
            _ => Err(format!("/proc/thread-self/schedstat has {text:?}")),
        }
    }

    /// How many times longer everything takes than on a machine that has nothing else to do, since the beginning; 1 at least.
    pub(crate) fn factor(&self) -> Outcome<f64> {
        let now = Self::begin()?;
        let (ran, waited) = (now.ran.saturating_sub(self.ran), now.waited.saturating_sub(self.waited));
        Ok(1.0 + waited.as_secs_f64() / ran.as_secs_f64().max(0.001))
    }
}

/// How long the overlay of a host is not `whole` when `damage` is done to it.
pub(crate) fn repaired_after(host: &Host, whole: &[String], damage: impl FnOnce() -> Outcome) -> Outcome<Damaged> {
    let (looking, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let watch = || {
        let mut socket = Socket::route().map_err(|error| error.to_string())?;
        let (begin, cpu, mut damaged) = (Instant::now(), on_processor()?, None);
        let report = |took| {
            let (wall, cpu) = (begin.elapsed().as_secs_f64(), on_processor()?.saturating_sub(cpu).as_secs_f64());
            Ok(Damaged { took, slowed: (wall / cpu).max(1.0) })
        };
        loop {
            let over = done.load(Ordering::Relaxed);
            let now = look(&mut socket).map_err(|error| error.to_string())?;
            looking.store(true, Ordering::Relaxed);
            match (now == whole, damaged) {
                (false, None) => damaged = Some(Instant::now()),
                (true, Some(since)) => return report(since.elapsed()),
                (true, None) if over => return report(Duration::ZERO),
                _ if begin.elapsed() < SOON => {}
                (true, None) => return Err("nobody did any damage".into()),
                (false, Some(_)) => {
                    let gone: Vec<_> = whole.iter().filter(|line| !now.contains(line)).collect();
                    let more: Vec<_> = now.iter().filter(|line| !whole.contains(line)).collect();
                    return Err(format!("not repaired within {SOON:?}: without {gone:?}, with {more:?}"));
                }
            }
        }
    };
    thread::scope(|scope| {
        let watcher = scope.spawn(|| host.enter(watch));
        while !looking.load(Ordering::Relaxed) && !watcher.is_finished() {
            thread::yield_now();
        }
        let damaged = damage();
        done.store(true, Ordering::Relaxed);
        let took = watcher.join().map_err(|_| "the watcher has panicked")?;
        damaged.and(took)
    })
}
