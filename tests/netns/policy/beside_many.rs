//! A connection on the fast path that a policy refuses, beside many others: it takes a while until all are judged, and meanwhile the fast path must
//! not begin to remember it again for long.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::policies::{policed, put, take};
use podwire_tests::lab::scene::{FAMILIES, check};
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
            let stream = Monologue::start("TCP", &client.host, &server.host, (to, STREAM).into())?;
            let (begun, arrived, stop) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)), AtomicBool::new(false));
            let receiver =
                server.host.enter(|| UdpSocket::bind((to, NEW))).map_err(|error| format!("{to}: {error}"))?;
            receiver.set_read_timeout(Some(EVERY)).map_err(|error| error.to_string())?;
            thread::scope(|scope| {
                let flag = &stop;
                scope.spawn(|| client.host.enter(|| begin_again_and_again((to, NEW).into(), &begun, flag)));
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
            check(begun.load(Ordering::Relaxed) > 0, || "nothing was begun".into())?;
        }
        Ok(())
    });
}

/// Has so many connections tracked that nobody answers.
fn fill(to: IpAddr) -> io::Result<()> {
    let unspecified: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((unspecified, 0))?;
    // Refused by the other end, which nobody listens on.
    (FIRST..FIRST + OTHERS).for_each(|port| _ = socket.send_to(b"x", (to, port)));
    Ok(())
}

fn begin_again_and_again(to: SocketAddr, begun: &AtomicU64, stop: &AtomicBool) {
    let unspecified: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    while !stop.load(Ordering::Relaxed) {
        let sent = UdpSocket::bind((unspecified, 0)).and_then(|socket| socket.send_to(b"x", to));
        begun.fetch_add(u64::from(sent.is_ok()), Ordering::Relaxed);
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
