//! Inputs without end, or that never come: a membership or settings file that is huge, a FIFO, a device or a directory; a
//! Kubernetes API whose pages, lines and lists do not end. Each has a limit, which the error names; what was known stays.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podwire_tests::lab::host::{Host, SHARED};
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::process::Process;
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, daemon, eventually};

/// What the daemon may have in memory, in KiB: half of what the manifest gives it.
const MEMORY: u64 = 128 * 1024;

/// The most memory that a process has had, in KiB.
pub(super) fn peak(host: &Host, process: &Process) -> Outcome<u64> {
    let status = host.run("cat", &[&format!("/proc/{}/status", process.id())])?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.ok_or_else(|| format!("no VmHWM in {status}"))
}

#[test]
fn a_membership_file_that_cannot_be_one_is_named_and_the_last_one_stays_in_force() {
    scene(2, |lab| {
        lab.start()?;
        let host = lab.nodes[0].host.clone();
        let file = format!("{SHARED}/nodes.toml");
        let before = host.run("ip", &["route", "show", "proto", "112"])?;
        let big = "truncate --size 9437184 $1.new";
        for (what, make, why) in [
            ("a huge file", big, "it has 9437184 bytes, and at most 8388608 are read"),
            ("a FIFO", "mkfifo $1.new", "it is not a regular file"),
            ("a device", "ln -s /dev/zero $1.new", "it is not a regular file"),
            ("a directory", "mkdir $1.new", "it is not a regular file"),
        ] {
            let line = format!("rm -rf $1.new; {make}; rm -rf $1; mv -T $1.new $1");
            host.run("sh", &["-ec", &line, "sh", &file])?;
            eventually(SOON, || {
                let status = daemon::json(&host, &["status", "--json"])?;
                let problems = status["problems"].to_string();
                let named =
                    problems.contains("membership-unreadable") && problems.contains(&file) && problems.contains(why);
                check(named && status["converged"] == true, || format!("{what}: {status}"))?;
                check(status["peers"].as_array().is_some_and(|peers| peers.len() == 1), || status["peers"].to_string())
            })?;
            let after = host.run("ip", &["route", "show", "proto", "112"])?;
            check(after == before, || format!("{what}: {before}: {after}"))?;
        }
        // A daemon that starts, and the doctor, say so too, and wait for nothing.
        host.run("sh", &["-ec", "rm -rf $1; mkfifo $1", "sh", &file])?;
        let start = Instant::now();
        let answer = daemon::podwired(&host, &["doctor", "--nodes", &file, "--node-name", "node-1"])?;
        check(answer.code == Some(2) && answer.complaint.contains("it is not a regular file"), || {
            format!("{answer:?}")
        })?;
        let mut daemon = lab.nodes[0].daemon.take().ok_or("no daemon")?;
        daemon.stop(SOON)?;
        daemon::start(&mut lab.nodes[0], &[])?;
        daemon::of(&lab.nodes[0])?.wait_for("it is not a regular file", SOON)?;
        lab.nodes[0].daemon.take();
        host.run("rm", &[&file])?;
        lab.write(&Membership::of(1..=2))?;
        for (make, why) in [
            ("mkfifo $1", "it is not a regular file"),
            ("truncate --size 2097152 $1", "it has 2097152 bytes, and at most 1048576 are read"),
        ] {
            host.run("sh", &["-ec", &format!("rm -rf $1; {make}"), "sh", "/run/settings.toml"])?;
            daemon::start(&mut lab.nodes[0], &["--settings", "/run/settings.toml"])?;
            let said = daemon::of(&lab.nodes[0])?.wait_for(why, SOON)?;
            check(said.contains("settings file /run/settings.toml"), || said.clone())?;
            lab.nodes[0].daemon.take();
        }
        check(start.elapsed() < SOON, || format!("it took {:?}", start.elapsed()))
    });
}

/// How the API misbehaves.
#[derive(Debug, Clone, Copy)]
enum Endless {
    /// A page of a list has no end.
    Page,
    /// A list has no last page.
    List,
    /// An error has no end.
    Error,
    /// A line of a watch has no end.
    Line,
}

/// Serves a request after the other until it is told to stop.
fn serve(listener: &TcpListener, kind: Endless, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A client that goes away is what is waited for.
            Ok((stream, _)) => drop(answer(stream, kind, stop)),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn answer(mut stream: TcpStream, kind: Endless, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let mut request = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => request.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        request.clear();
        let page = |next: &str| {
            let body =
                format!("{{\"metadata\": {{\"resourceVersion\": \"1\", \"continue\": \"{next}\"}}, \"items\": []}}");
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let watch = head.contains("watch=true");
        match kind {
            Endless::List => stream.write_all(page("more").as_bytes())?,
            Endless::Line if !watch => stream.write_all(page("").as_bytes())?,
            Endless::Page | Endless::Line | Endless::Error => {
                let status = if matches!(kind, Endless::Error) { "500 Internal Server Error" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                );
                stream.write_all(head.as_bytes())?;
                let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&chunk)?;
                }
            }
        }
    }
    Ok(())
}

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: \"http://127.0.0.1:6443\"}}]
users: [{name: a, user: {}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
";

#[test]
fn an_api_without_end_costs_no_memory_and_the_limit_is_named() {
    for (kind, said) in [
        (Endless::Page, "a page has more than 33554432 bytes"),
        (Endless::List, "the list has more than 2000 pages"),
        (Endless::Error, "list nodes in the Kubernetes API: 500"),
        (Endless::Line, "an event has more than 8388608 bytes"),
    ] {
        scene(1, |lab| {
            let host = lab.nodes[0].host.clone();
            host.run("ip", &["link", "set", "lo", "up"])?;
            let listener = host.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 6443)));
            let listener = listener.map_err(|error| error.to_string())?;
            listener.set_nonblocking(true).map_err(|error| error.to_string())?;
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = stop.clone();
            let server = std::thread::spawn(move || serve(&listener, kind, &stopped));
            let play = || -> Outcome {
                let settings = "cluster_cidrs = [\"10.244.0.0/16\"]\n";
                let wrote = host.enter(|| {
                    std::fs::write("/run/kubeconfig", KUBECONFIG)?;
                    std::fs::write("/run/settings.toml", settings)
                });
                wrote.map_err(|error| error.to_string())?;
                let podwired = podwire_tests::lab::program("podwired").map_err(|error| error.to_string())?;
                let mut command = std::process::Command::new(podwired);
                command.args(["run", "--kubernetes", "--kubeconfig", "/run/kubeconfig", "--node-name", "node-1"]);
                command.args(["--settings", "/run/settings.toml", "--state-directory", "/run/state"]);
                let daemon = host.start("podwired", &mut command)?;
                daemon.wait_for(said, SOON)?;
                let peak = peak(&host, &daemon)?;
                check(peak < MEMORY, || format!("{kind:?}: {peak} KiB"))?;
                let longest = daemon.said().iter().map(String::len).max().unwrap_or_default();
                check(longest < 8192, || format!("{kind:?}: a line of {longest} bytes"))?;
                // What the log says, status says as well.
                let status = daemon::podwired(&host, &["status", "--json"])?;
                check(status.said.contains(said), || format!("{kind:?}: {}", status.said))
            };
            let played = play();
            stop.store(true, Ordering::Relaxed);
            server.join().map_err(|_| "the server panicked".to_owned())?;
            played
        });
    }
}
