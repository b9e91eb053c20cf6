//! Cases that real implementations got wrong: what becomes of connections that have begun.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::policies::{follow, policed, put};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{SOON, eventually};
use serde_json::json;

use super::stage::{Answerers, add_pod, app, of};
use crate::overlay::narrow_paths::{move_away, set_path};

const PORT: u16 = 7500;

/// From one packet of a server to the next.
const INTERVAL: Duration = Duration::from_millis(2);

/// A transfer whose losses are told takes milliseconds; one that has to be guessed takes many seconds.
const PROMPTLY: Duration = Duration::from_secs(5);

/// A connection of which nothing arrives for so long is cut.
const SILENCE: Duration = Duration::from_millis(250);

/// A connection on which the server alone speaks, once it has been greeted.
pub(super) struct Monologue {
    what: String,
    heard: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Either end of it.
enum End {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl End {
    fn write(&mut self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(b"word"),
            Self::Udp(socket) => socket.send(b"word"),
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64];
        match self {
            Self::Tcp(stream) => stream.read(&mut buffer),
            Self::Udp(socket) => socket.recv(&mut buffer),
        }
    }
}

impl Monologue {
    pub(super) fn start(protocol: &str, client: &Host, server: &Host, to: SocketAddr) -> Outcome<Self> {
        let what = format!("{protocol} from {} to {to}", client.name);
        let failed = |error: io::Error| format!("{what}: {error}");
        let (listening, speaking) = ends(protocol, client, server, to).map_err(failed)?;
        let (heard, ending) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let speaker = thread::spawn({
            let (ending, mut end) = (ending.clone(), speaking);
            move || {
                while !ending.load(Ordering::Relaxed) {
                    // A full buffer is one whose client has stopped to confirm.
                    let _ = end.write();
                    thread::sleep(INTERVAL);
                }
            }
        });
        let listener = thread::spawn({
            let (heard, ending, mut end) = (heard.clone(), ending.clone(), listening);
            move || {
                while !ending.load(Ordering::Relaxed) {
                    if end.read().is_ok_and(|length| length > 0) {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Self { what, heard, ending, threads: vec![speaker, listener] })
    }

    /// How many packets have arrived.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until it flows.
    pub(super) fn flows(&self) -> Outcome {
        let before = self.heard.load(Ordering::Relaxed);
        let more = || self.heard.load(Ordering::Relaxed) - before;
        eventually(SOON, || check(more() > 5, || format!("{} does not flow", self.what)))
    }

    /// Waits until nothing of it arrives.
    pub(super) fn is_cut(&self) -> Outcome {
        eventually(SOON, || {
            let before = self.heard.load(Ordering::Relaxed);
            // Silence can only be waited for.
            thread::sleep(SILENCE);
            let more = self.heard.load(Ordering::Relaxed) - before;
            check(more == 0, || format!("{}: {more} packets arrived within {SILENCE:?}", self.what))
        })
    }
}

impl Drop for Monologue {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // A panic has been printed already.
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

/// The client's and the server's end of a connection.
fn ends(protocol: &str, client: &Host, server: &Host, to: SocketAddr) -> io::Result<(End, End)> {
    if protocol == "UDP" {
        let speaking = server.enter(|| UdpSocket::bind(to))?;
        let listening = client.enter(|| UdpSocket::bind((unspecified(to.ip()), 0)))?;
        listening.connect(to)?;
        listening.send(b"greeting")?;
        listening.set_read_timeout(Some(SILENCE))?;
        speaking.set_read_timeout(Some(SOON))?;
        let (_, from) = speaking.recv_from(&mut [0; 64])?;
        speaking.connect(from)?;
        return Ok((End::Udp(listening), End::Udp(speaking)));
    }
    let accepting = server.enter(|| TcpListener::bind(to))?;
    let listening = client.enter(|| TcpStream::connect_timeout(&to, SOON))?;
    listening.set_read_timeout(Some(SILENCE))?;
    let (speaking, _) = accepting.accept()?;
    speaking.set_nodelay(true)?;
    speaking.set_nonblocking(true)?;
    Ok((End::Tcp(listening), End::Tcp(speaking)))
}

#[test]
fn case_9_nothing_arrives_of_a_stream_that_a_new_policy_refuses_when_only_the_server_sends() {
    policed(2, |lab| {
        for (node, name) in [(0, "server"), (0, "near"), (1, "far"), (0, "near-friend"), (1, "far-friend")] {
            add_pod(lab, node, name, &app(name.trim_start_matches("near-").trim_start_matches("far-")), &json!({}))?;
        }
        let server = lab.nodes[0].pod("server");
        let (mut refused, mut allowed) = (Vec::new(), Vec::new());
        for (number, (node, name)) in (0..).zip([(0, "near"), (1, "far"), (0, "near-friend"), (1, "far-friend")]) {
            for like in FAMILIES {
                for protocol in ["TCP", "UDP"] {
                    let client = &lab.nodes[node].pod(name).host;
                    let to = (server.address(like), PORT + number).into();
                    let stream = Monologue::start(protocol, client, &server.host, to)?;
                    if name.ends_with("friend") { allowed.push(stream) } else { refused.push(stream) }
                }
            }
        }
        refused.iter().chain(&allowed).try_for_each(Monologue::flows)?;
        let friends = json!([{"podSelector": {"matchLabels": {"app": "friend"}}}]);
        // By the server's ingress; and by the clients' egress, which the other node judges.
        let of_server = of("server", &json!({"ingress": [{"from": friends}]}));
        put(lab, "refuses", &of_server)?;
        refused.iter().try_for_each(Monologue::is_cut)?;
        allowed.iter().try_for_each(Monologue::flows)?;
        podwire_tests::lab::policies::take(lab, "refuses")?;
        refused.iter().chain(&allowed).try_for_each(Monologue::flows)?;
        for name in ["near", "far"] {
            put(lab, name, &of(name, &json!({"policyTypes": ["Egress"]})))?;
        }
        refused.iter().try_for_each(Monologue::is_cut)?;
        allowed.iter().try_for_each(Monologue::flows)
    });
}

#[test]
fn case_11_an_answer_to_what_began_just_before_its_ingress_was_isolated_passes() {
    policed(2, |lab| {
        for (node, name) in [(0, "client"), (0, "near"), (1, "far")] {
            add_pod(lab, node, name, &app(name), &json!({}))?;
        }
        let client = lab.nodes[0].pod("client").host.clone();
        let mut answerers = Answerers::of(lab, |name| name == "client")?;
        let failed = |error: io::Error| format!("a question: {error}");
        let mut questions = Vec::new();
        for (node, name) in [(0, "near"), (1, "far")] {
            for like in FAMILIES {
                let server = lab.nodes[node].pod(name);
                let asked = server.host.enter(|| UdpSocket::bind((server.address(like), PORT))).map_err(failed)?;
                let asking = client.enter(|| UdpSocket::bind((unspecified(like), 0))).map_err(failed)?;
                for socket in [&asked, &asking] {
                    socket.set_read_timeout(Some(SOON)).map_err(failed)?;
                }
                asking.send_to(b"?", (server.address(like), PORT)).map_err(failed)?;
                let (_, from) = asked.recv_from(&mut [0; 8]).map_err(failed)?;
                questions.push((asking, asked, from));
            }
        }
        put(lab, "client", &of("client", &json!({"policyTypes": ["Ingress"]})))?;
        answerers.soon(lab, &[("near", "client", "UDP/80", false), ("far", "client", "TCP/80", false)])?;
        for (asking, asked, from) in &questions {
            asked.send_to(b"!", from).map_err(failed)?;
            let answer = asking.recv_from(&mut [0; 8]);
            answer.map_err(|error| format!("the answer to {from}: {error}"))?;
        }
        Ok(())
    });
}

/// Reads all that comes, and says how much it was.
fn count(listener: TcpListener) -> JoinHandle<io::Result<usize>> {
    thread::spawn(move || {
        let (mut stream, mut all, mut buffer) = (listener.accept()?.0, 0, [0; 65_536]);
        stream.set_read_timeout(Some(SOON))?;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(all),
                length => all += length,
            }
        }
    })
}

#[test]
fn case_13_fragmentation_needed_reaches_an_isolated_pod_and_its_transfer_goes_on() {
    const MUCH: usize = 1_000_000;
    scene(2, |lab| {
        follow(lab)?;
        // The second host is no node here, but a server behind a router whose way there is narrow.
        move_away(lab)?;
        set_path(lab, 1300)?;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        add_pod(lab, 0, "client", &app("client"), &json!({}))?;
        add_pod(lab, 0, "other", &app("other"), &json!({}))?;
        let mut answerers = Answerers::of(lab, |name| name == "client")?;
        let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
        let servers = [block("192.168.60.2/32"), block("fd00:192:168:60::2/128")];
        let rules = json!({
            "policyTypes": ["Ingress", "Egress"],
            "egress": [{"to": servers, "ports": [{"port": PORT}]}],
        });
        put(lab, "client", &of("client", &rules))?;
        answerers.soon(lab, &[("other", "client", "TCP/80", false)])?;
        let (client, server) = (&lab.nodes[0].pod("client").host, &lab.nodes[1].host);
        for address in ["192.168.60.2", "fd00:192:168:60::2"] {
            let to: SocketAddr = (address.parse::<IpAddr>().unwrap(), PORT).into();
            let failed = |error: io::Error| format!("a transfer to {to}: {error}");
            let counting = count(server.enter(|| TcpListener::bind(to)).map_err(failed)?);
            let mut stream = client.enter(|| TcpStream::connect_timeout(&to, SOON)).map_err(failed)?;
            stream.set_write_timeout(Some(SOON)).map_err(failed)?;
            let start = Instant::now();
            stream.write_all(&vec![7; MUCH]).map_err(failed)?;
            drop(stream);
            let heard = counting.join().map_err(|_| "the server panicked")?.map_err(failed)?;
            check(heard == MUCH, || format!("{heard} of {MUCH} bytes arrived at {to}"))?;
            check(start.elapsed() < PROMPTLY, || format!("{MUCH} bytes took {:?}", start.elapsed()))?;
            // The pod has been told, and by nobody who was asked in.
            let route = client.run("ip", &["route", "get", address])?;
            check(route.contains("mtu 1300"), || format!("nobody told the pod of the way to {to}: {route}"))?;
        }
        Ok(())
    });
}

fn unspecified(like: IpAddr) -> IpAddr {
    (if like.is_ipv4() { "0.0.0.0" } else { "::" }).parse().unwrap()
}
