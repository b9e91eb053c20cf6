//! A connection on the fast path that a policy refuses, beside many others: it takes a while until all are judged, and meanwhile the fast path must
//! not begin to remember it again for long.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::policies::{policed, put, take};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use serde_json::json;

use super::cases_of_connections::Monologue;
use super::stage::{add_pod, app, of};

/// So many that listing them takes longer than the fast path remembers nothing (20 ms), and less than it remembers a flow (1 s).
const OTHERS: u16 = 30_000;

/// The ports that they go to, where nobody listens: this one and those behind it.
const FIRST: u16 = 20_000;

/// The ports of the stream and of what is begun anew all the time.
const STREAM: u16 = 7_600;
const NEW: u16 = 7_601;

/// From one to the next that is begun.
const EVERY: Duration = Duration::from_millis(2);

/// How long the stream may go on after the first packet that is refused. The fast path would have it go on for a second.
const PROMPTLY: Duration = Duration::from_millis(600);

/// On a machine with other things to do the list may take longer.
const ATTEMPTS: usize = 3;

/// After so long nothing comes any more.
const SILENCE: Duration = Duration::from_millis(1_500);

#[test]
fn a_stream_on_the_fast_path_ends_once_it_is_judged_beside_many_other_connections() {
    policed(1, |lab| {
        ["server", "client", "other"].into_iter().try_for_each(|name| add_pod(lab, 0, name, &app(name), &json!({})))?;
        for like in FAMILIES {
            let [server, client, other] = ["server", "client", "other"].map(|name| lab.nodes[0].pod(name));
            let to = server.address(like);
            client.host.enter(|| fill(other.address(like))).map_err(|error| format!("fill: {error}"))?;
            are_tracked(&lab.nodes[0].host)?;
            let stream = Monologue::start("TCP", &client.host, &server.host, (to, STREAM).into())?;
            let (arrived, stop) = (AtomicU64::new(0), AtomicBool::new(false));
            let receiver =
                server.host.enter(|| UdpSocket::bind((to, NEW))).map_err(|error| format!("{to}: {error}"))?;
            receiver.set_read_timeout(Some(EVERY)).map_err(|error| error.to_string())?;
            thread::scope(|scope| {
                let flag = &stop;
                scope.spawn(|| client.host.enter(|| begin_again_and_again((to, NEW).into(), flag)));
                scope.spawn(|| {
                    while !flag.load(Ordering::Relaxed) {
                        arrived.fetch_add(u64::from(receiver.recv(&mut [0; 8]).is_ok()), Ordering::Relaxed);
                    }
                });
                let played = (|| {
                    let mut lasted = Vec::new();
                    for _ in 0..ATTEMPTS {
                        stream.flows()?;
                        put(lab, "refuses", &of("server", &json!({"ingress": []})))?;
                        let [last_new, last_heard] = last(&[&|| arrived.load(Ordering::Relaxed), &|| stream.heard()]);
                        take(lab, "refuses")?;
                        lasted.push(last_heard.saturating_duration_since(last_new));
                        if lasted.last().is_some_and(|lasted| *lasted < PROMPTLY) {
                            return Ok(());
                        }
                    }
                    Err(format!("the stream went on for {lasted:?} after the last connection had begun"))
                })();
                stop.store(true, Ordering::Relaxed);
                played
            })?;
        }
        Ok(())
    });
}

/// Has so many connections tracked that nobody answers.
fn fill(to: IpAddr) -> io::Result<()> {
    let unspecified: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((unspecified, 0))?;
    (FIRST..FIRST + OTHERS).try_for_each(|port| socket.send_to(b"x", (to, port)).map(drop))
}

/// That nearly all of them are: without them the list takes no time, and the scene shows nothing.
fn are_tracked(node: &Host) -> Outcome {
    let text = node.run("cat", &["/proc/sys/net/netfilter/nf_conntrack_count"])?;
    let count: u32 = text.trim().parse().map_err(|error| format!("{text:?}: {error}"))?;
    check(count > u32::from(OTHERS - OTHERS / 20), || format!("{count} of {OTHERS} connections are tracked"))
}

fn begin_again_and_again(to: SocketAddr, stop: &AtomicBool) {
    let unspecified: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    while !stop.load(Ordering::Relaxed) {
        // One that is not sent is not seen to arrive, and the next one is.
        let _ = UdpSocket::bind((unspecified, 0)).and_then(|socket| socket.send_to(b"x", to));
        thread::sleep(EVERY);
    }
}

/// When each of these numbers grew last, once neither has for a while.
fn last<const N: usize>(numbers: &[&dyn Fn() -> u64; N]) -> [Instant; N] {
    let mut seen = numbers.map(|number| (number(), Instant::now()));
    while seen.iter().any(|(_, grown)| grown.elapsed() < SILENCE) {
        // Silence can only be waited for.
        thread::sleep(EVERY);
        for (number, (before, grown)) in numbers.iter().zip(&mut seen) {
            let now = number();
            if now != *before {
                (*before, *grown) = (now, Instant::now());
            }
        }
    }
    seen.map(|(_, grown)| grown)
}
