//! Clients of `--metrics` that want to keep others from being answered: many connections that say nothing, that send a byte now
//! and then, headers without end, or read nothing. Health answers each probe within kubelet's second.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use podwire_tests::lab::daemon::{self, start};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, eventually};

/// Connections that one attacker holds at once.
const CONNECTIONS: usize = 800;

/// What kubelet gives a probe by default.
const PROBE: Duration = Duration::from_secs(1);

/// What a client does with its connection.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// Nothing.
    Silent,
    /// It sends its request a byte at a time.
    Bytes,
    /// It sends headers without end.
    Headers,
    /// It asks for the metrics and does not read them.
    Unread,
    /// It asks for the metrics, and for nothing else, all the time.
    Scrapes,
    /// It ends its side at once, and does not read.
    HalfClosed,
}

/// Asks for a page as kubelet does; the status line, and how long it took.
fn probe(address: SocketAddr, path: &str) -> std::io::Result<(String, Duration)> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PROBE)?;
    stream.set_read_timeout(Some(PROBE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Ok((answer.lines().next().unwrap_or_default().to_owned(), start.elapsed()))
}

/// One more connection.
fn connect(address: SocketAddr, attack: Attack) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE).ok()?;
    stream.set_nonblocking(true).ok()?;
    match attack {
        Attack::Unread | Attack::Scrapes => drop(stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")),
        Attack::HalfClosed => drop(stream.shutdown(Shutdown::Write)),
        Attack::Silent | Attack::Bytes | Attack::Headers => {}
    }
    Some(stream)
}

/// Goes on with a connection; whether it is still there.
fn go_on(stream: &mut TcpStream, attack: Attack) -> bool {
    let done = match attack {
        Attack::Silent => stream.read(&mut [0; 64]),
        Attack::Bytes => stream.write(b"G").and_then(|_| stream.read(&mut [0; 64])),
        Attack::Headers => stream.write(b"A: b\r\n").and_then(|_| stream.read(&mut [0; 64])),
        Attack::Scrapes => stream.read(&mut [0; 65_536]),
        Attack::Unread | Attack::HalfClosed => stream.peek(&mut [0; 1]).map(|_| 1),
    };
    match done {
        Ok(read) => read > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Holds connections until it is told to stop.
fn attack(address: SocketAddr, attack: Attack, stop: &AtomicBool, opened: &AtomicUsize) {
    let mut held = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while held.len() < CONNECTIONS && !stop.load(Ordering::Relaxed) {
            let Some(stream) = connect(address, attack) else { break };
            opened.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
        held.retain_mut(|stream| go_on(stream, attack));
        // Without this the attack would be on the processor, and not on the connections.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// That health is answered within a second each time while an attack goes on.
fn is_healthy_during(host: &Host, address: SocketAddr, kind: Attack) -> Outcome {
    let (stop, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| host.enter(|| attack(address, kind, &stop, &opened)));
        let asked = host.enter(|| {
            let begun = Instant::now();
            while opened.load(Ordering::Relaxed) < CONNECTIONS && begun.elapsed() < SOON {
                std::thread::yield_now();
            }
            for number in 0..10 {
                for path in ["/healthz", "/readyz"] {
                    match probe(address, path) {
                        Ok((status, took)) if status == "HTTP/1.1 200 OK" && took < PROBE => {}
                        other => return Err(format!("{kind:?} at {address}: {path}, the {number}th time: {other:?}")),
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        attacker.join().map_err(|_| "the attacker panicked".to_owned())?;
        asked
    })
}

#[test]
fn health_is_answered_within_a_second_whatever_other_clients_do() {
    for local in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(local, 9472);
        scene(1, |lab| {
            // Peers enough for a page of metrics that no socket's buffer takes.
            lab.write(&Membership::of(1..=200))?;
            start(&mut lab.nodes[0], &["--metrics", &address.to_string()])?;
            lab.nodes[0].wait_ready()?;
            let host = lab.nodes[0].host.clone();
            host.run("ip", &["link", "set", "lo", "up"])?;
            let ask = |path: &str| host.enter(|| probe(address, path)).map_err(|error| error.to_string());
            eventually(SOON, || ask("/readyz"))?;
            let attacks =
                [Attack::Silent, Attack::Bytes, Attack::Headers, Attack::Unread, Attack::Scrapes, Attack::HalfClosed];
            attacks.into_iter().try_for_each(|kind| is_healthy_during(&host, address, kind))?;
            // And afterwards everything is as before.
            eventually(SOON, || ask("/metrics"))?;
            let descriptors = |process: u32| host.run("sh", &["-c", &format!("ls /proc/{process}/fd | wc -l")]);
            let process = daemon::of(&lab.nodes[0])?;
            eventually(SOON, || {
                let open = descriptors(process.id())?;
                check(open.parse::<usize>().is_ok_and(|open| open < 64), || format!("{open} open descriptors"))
            })?;
            let said = process.said();
            let warned = said.iter().filter(|line| line.contains("WARN accept")).count();
            check(warned == 0, || said.join("\n"))
        });
    }
}

/// Asks for the metrics and goes, again and again.
fn ask_and_go(address: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, PROBE) {
            // Who is refused asks again.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        }
    }
}

#[test]
fn clients_that_ask_for_metrics_and_go_take_no_descriptors_with_them() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9472));
    scene(1, |lab| {
        lab.write(&Membership::of(1..=500))?;
        start(&mut lab.nodes[0], &["--metrics", &address.to_string()])?;
        lab.nodes[0].wait_ready()?;
        let host = lab.nodes[0].host.clone();
        host.run("ip", &["link", "set", "lo", "up"])?;
        eventually(SOON, || host.enter(|| probe(address, "/readyz")).map_err(|error| error.to_string()))?;
        let process = daemon::of(&lab.nodes[0])?.id();
        let stop = AtomicBool::new(false);
        let most = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| host.enter(|| ask_and_go(address, &stop)));
            }
            let (begun, mut most) = (Instant::now(), 0);
            while begun.elapsed() < Duration::from_secs(5) {
                let open = host.enter(|| std::fs::read_dir(format!("/proc/{process}/fd")).map(Iterator::count));
                most = most.max(open.unwrap_or(usize::MAX));
                std::thread::sleep(Duration::from_millis(50));
            }
            stop.store(true, Ordering::Relaxed);
            most
        });
        check(most < 1000, || format!("{most} open descriptors"))?;
        eventually(SOON, || host.enter(|| probe(address, "/metrics")).map_err(|error| error.to_string())).map(drop)
    });
}

#[test]
fn health_is_answered_when_descriptors_are_few_and_the_status_socket_too() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9472));
        let by = ["prlimit", "--nofile=64:64"];
        let mut command = daemon::command(&lab.nodes[0], &by, &["--metrics", &address.to_string()])?;
        lab.nodes[0].daemon = Some(host.start("podwired", &mut command)?);
        lab.nodes[0].wait_ready()?;
        host.run("ip", &["link", "set", "lo", "up"])?;
        is_healthy_during(&host, address, Attack::Silent)?;
        // Root's own clients of the status socket that say nothing.
        let silent = host.enter(|| -> std::io::Result<Vec<_>> {
            (0..40).map(|_| std::os::unix::net::UnixStream::connect("/run/podwire/podwired.sock")).collect()
        });
        let silent = silent.map_err(|error| error.to_string())?;
        let start = Instant::now();
        daemon::json(&host, &["status", "--json"])?;
        check(start.elapsed() < PROBE * 3, || format!("status took {:?}", start.elapsed()))?;
        drop(silent);
        Ok(())
    });
}
