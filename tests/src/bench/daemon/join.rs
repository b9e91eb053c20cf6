//! A peer that joins many others: from the moment at which the daemon publishes the new membership inside of itself to
//! the moment at which another program hears from the kernel that both routes to it are there.
//!
//! The first is the time that the daemon writes before "the membership has changed", a line that it logs right after it
//! has published the change and before anything else can run; the second is what `ip -ts monitor` writes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use serde::Serialize;

use super::layout;
use super::plan::{self, Entry};
use super::program::Podwired;
use super::rest::{self, Rest};
use crate::statistics::Summary;

/// How long one peer may take, from the file to the kernel.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is measured beside many peers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Join {
    /// How many there were at the beginning.
    pub(crate) peers: u32,
    /// From the event to the second of its routes.
    pub(crate) latency: Summary,
    /// The slowest, in milliseconds.
    pub(crate) slowest_ms: f64,
    /// What the daemon costs while nothing has to be done.
    pub(crate) rest: Vec<Rest>,
}

/// `ip -ts monitor route`, which ends with this.
struct Monitor {
    child: Child,
    lines: Receiver<String>,
}

/// Lets peers join one by one, and then has a rest of this length of each kind.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(peers: u32, joins: u32, rest: Duration, podwired: &Path, shared: &Path) -> Result<Join, String> {
    let directory = shared.join("join");
    let (_switch, host) = layout::lonely("node", 1, &directory)?;
    let mut entries: Vec<_> = (1..=peers + 1).map(Entry::of).collect();
    plan::write(&directory, &plan::text(&entries))?;
    let daemon = Podwired::start(podwired, &host, 1)?;
    daemon.wait_for("ready: ")?;
    let monitor = Monitor::start(&host)?;
    let mut times = Vec::new();
    for number in peers + 2..peers + 2 + joins {
        entries.push(Entry::of(number));
        plan::write(&directory, &plan::text(&entries))?;
        let (_, line) = daemon.wait_for("the membership has changed")?;
        let event = microseconds(&line).ok_or_else(|| format!("no time in {line:?}"))?;
        let (four, six) = plan::pods(number);
        let first = monitor.wait_for(&format!("{four}/24 "), &format!("{six}/64 "))?;
        let second = monitor.wait_for(&format!("{four}/24 "), &format!("{six}/64 "))?;
        let took = first.max(second).checked_sub(event).ok_or("the clock was set during the run")?;
        times.push(Duration::from_micros(took));
    }
    let latency = Summary::of(&times).ok_or("nobody joined")?;
    let slowest_ms = crate::statistics::rounded(times.iter().max().map_or(0.0, Duration::as_secs_f64) * 1e3);
    let rest = rest::measure(&daemon, &directory, &entries, rest)?;
    Ok(Join { peers, latency, slowest_ms, rest })
}

impl Monitor {
    fn start(host: &Host) -> Result<Self, String> {
        let mut command = Command::new("ip");
        command.args(["-ts", "monitor", "route"]).env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let failed = |error: std::io::Error| format!("start ip monitor: {error}");
        let mut child = host.enter(|| command.spawn()).map_err(failed)?;
        let stream = child.stdout.take().ok_or("ip monitor has no standard output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // Nobody listens any more: it ends soon.
                let _ = sender.send(line);
            }
        });
        let monitor = Self { child, lines };
        // It says nothing when it begins to listen: a route that it has to hear of, until it does.
        let deadline = Instant::now() + PATIENCE;
        let probe = ["route", "replace", "blackhole", "192.0.2.77/32"];
        loop {
            host.run("ip", &probe)?;
            match monitor.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(_) => break,
                Err(_) if Instant::now() < deadline => {}
                Err(error) => return Err(format!("ip monitor hears nothing: {error}")),
            }
        }
        host.run("ip", &["route", "delete", "blackhole", "192.0.2.77/32"])?;
        Ok(monitor)
    }

    /// When it heard of a new route whose destination is one of these, in microseconds since midnight.
    fn wait_for(&self, one: &str, other: &str) -> Result<u64, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|error| format!("no route {one}or {other}: {error}"))?;
            let Some((_, what)) = line.split_once("] ") else { continue };
            if what.starts_with(one) || what.starts_with(other) {
                return microseconds(line.trim_start_matches('[')).ok_or_else(|| format!("no time in {line:?}"));
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time of day at the beginning of a line, as in `2026-01-02T03:04:05.678901`, in microseconds.
fn microseconds(line: &str) -> Option<u64> {
    let (_, time) = line.split_once('T')?;
    let clock = time.get(..15)?;
    let (clock, fraction) = clock.split_once('.')?;
    let mut seconds = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(seconds * 1_000_000 + fraction.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_both_programs_are_read() {
        let log = microseconds("2026-11-22T19:30:15.123456Z  INFO the membership has changed nodes=3");
        assert_eq!(log, Some(((19 * 60 + 30) * 60 + 15) * 1_000_000 + 123_456));
        assert_eq!(microseconds("2026-11-22T00:00:01.000002] 10.0.9.0/24 nhid 1"), Some(1_000_002));
        assert_eq!(microseconds("no time"), None);
    }
}
