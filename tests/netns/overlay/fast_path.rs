//! The fast path: what takes it, what does not, and that only the time it takes differs.
//!
//! Whether a packet took the normal forwarding path is shown by a foreign table on the node, which counts what is forwarded.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::CONFLISTS;
use podwire_tests::lab::runtime::{self, Call};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, json as look, scene};
use podwire_tests::lab::{Lab, SOON, daemon, eventually, wire};

/// The port of conversations, and of those of IPv6 the one after it: one that hangs does not hold the other's.
const PORT: u16 = 7000;
/// Exchanges of a conversation that are counted. They take a fraction of the second that a way is remembered.
pub(crate) const MANY: u64 = 2_000;

/// One connection between two hosts, on which a byte goes to and fro.
pub(crate) struct Conversation {
    stream: TcpStream,
    echo: Option<JoinHandle<IpAddr>>,
}

impl Conversation {
    /// `to` is where the other host is called.
    pub(crate) fn start(from: &Host, other: &Host, to: IpAddr) -> Outcome<Self> {
        let port = PORT + u16::from(to.is_ipv6());
        let failed = |error: std::io::Error| format!("connect {} to {to}: {error}", from.name);
        let any = if to.is_ipv4() { FAMILIES[0] } else { FAMILIES[1] };
        let listener = other.enter(|| TcpListener::bind((any, port))).map_err(failed)?;
        let echo = thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            drop(listener);
            stream.set_nodelay(true).unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                if stream.write_all(&byte).is_err() {
                    break;
                }
            }
            peer.ip()
        });
        let stream = from.enter(|| TcpStream::connect_timeout(&(to, port).into(), SOON)).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).map_err(failed)?;
        Ok(Self { stream, echo: Some(echo) })
    }

    /// So many exchanges.
    pub(crate) fn go_on(&mut self, exchanges: u64) -> Outcome {
        for number in 0..exchanges {
            let mut byte = [number.to_le_bytes()[0]];
            let exchanged = self.stream.write_all(&byte).and_then(|()| self.stream.read_exact(&mut byte));
            exchanged.map_err(|error| format!("exchange {number}: {error}"))?;
        }
        Ok(())
    }

    /// Exchanges for so long.
    pub(crate) fn go_on_for(&mut self, time: Duration) -> Outcome {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.go_on(10)?;
        }
        Ok(())
    }

    /// Ends it; who the other host took this one for.
    pub(crate) fn end(mut self) -> Outcome<IpAddr> {
        let echo = self.echo.take();
        drop(self);
        echo.map(JoinHandle::join).and_then(Result::ok).ok_or_else(|| "the echo panicked".into())
    }
}

/// A table on a node that counts what is forwarded, and what connection tracking calls invalid.
pub(crate) fn count(node: &Host) -> Outcome {
    for line in [
        "add table inet foreign",
        "add counter inet foreign forwarded",
        "add counter inet foreign invalid",
        "add chain inet foreign forward { type filter hook forward priority 10; }",
        "add rule inet foreign forward ct state invalid counter name invalid",
        "add rule inet foreign forward counter name forwarded",
    ] {
        node.run("nft", &[line])?;
    }
    Ok(())
}

pub(crate) fn counted(node: &Host, name: &str) -> Outcome<u64> {
    let found = look(node, "nft", &["-j", "list", "counter", "inet", "foreign", name])?;
    let packets = found["nftables"].as_array().into_iter().flatten().find_map(|one| one["counter"]["packets"].as_u64());
    packets.ok_or_else(|| format!("no counter {name}: {found}"))
}

/// The programs at a device: the names of those where packets come in, and where they go out.
fn programs(node: &Host, device: &str) -> Outcome<[String; 2]> {
    let of = |hook| node.run("tc", &["filter", "show", "dev", device, hook]);
    Ok([of("ingress")?, of("egress")?])
}

/// Waits until the programs are at the devices of all pods of the lab, and nowhere else.
pub(crate) fn wait_for_programs(lab: &Lab) -> Outcome {
    lab.nodes.iter().try_for_each(|node| {
        eventually(SOON, || {
            let links = look(&node.host, "ip", &["-j", "link"])?;
            for name in links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str()) {
                let ours = name == "podwire.1" || name.starts_with("pw");
                let [came, left] = programs(&node.host, name)?;
                let has = came.contains("podwire-forward") && left.contains("podwire-remember");
                let nothing = came.is_empty() && left.is_empty();
                check(if ours { has } else { nothing }, || format!("{name} of {}: {came}, {left}", node.host.name))?;
            }
            Ok(())
        })
    })
}

/// Pods: two on the first node, one on the second.
pub(crate) fn three_pods(lab: &mut Lab) -> Outcome {
    lab.nodes[0].add_pod("near")?;
    lab.nodes[0].add_pod("beside")?;
    lab.nodes[1].add_pod("far")?;
    wait_for_programs(lab)?;
    lab.nodes.iter().try_for_each(|node| count(&node.host))
}

#[test]
fn established_connections_use_it_between_nodes_and_within_one() {
    cluster(2, |lab| {
        three_pods(lab)?;
        for like in FAMILIES {
            for (node, name) in [(1, "far"), (0, "beside")] {
                let (near, other) = (lab.nodes[0].pod("near"), lab.nodes[node].pod(name));
                let to = other.address(like);
                let mut talk = Conversation::start(&near.host, &other.host, to)?;
                // Until both sides of both nodes remember it.
                talk.go_on(50)?;
                let before: Vec<_> =
                    lab.nodes.iter().map(|node| counted(&node.host, "forwarded")).collect::<Result<_, _>>()?;
                talk.go_on(MANY)?;
                for (node, before) in lab.nodes.iter().zip(before) {
                    let forwarded = counted(&node.host, "forwarded")? - before;
                    check(forwarded < MANY / 4, || {
                        format!("{forwarded} packets of {MANY} exchanges with {to} went through {}", node.host.name)
                    })?;
                }
                // Longer than it is remembered: connection tracking sees a packet again now and then, and the last ones.
                talk.go_on_for(Duration::from_millis(2_500))?;
                let seen = talk.end()?;
                check(seen == near.address(like), || format!("{to} saw {seen}"))?;
            }
        }
        for node in &lab.nodes {
            let invalid = counted(&node.host, "invalid")?;
            check(invalid == 0, || format!("{invalid} packets are invalid to {}", node.host.name))?;
        }
        Ok(())
    });
}

#[test]
fn a_translated_connection_takes_the_normal_forwarding_path() {
    cluster(2, |lab| {
        three_pods(lab)?;
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        near.host.run("sh", &["-c", "echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range"])?;
        for (like, service) in FAMILIES.into_iter().zip(["10.96.0.10", "fd00:96::10"]) {
            let service: IpAddr = service.parse().unwrap();
            // As kube-proxy does it.
            let (family, pod) = (if like.is_ipv4() { "ip" } else { "ip6" }, far.address(like));
            let node = &lab.nodes[0].host;
            for line in [
                format!("add table {family} services"),
                format!("add chain {family} services to {{ type nat hook prerouting priority dstnat; }}"),
                format!("add rule {family} services to {family} daddr {service} dnat to {pod}"),
            ] {
                node.run("nft", &[&line])?;
            }
            let mut talk = Conversation::start(&near.host, &far.host, service)?;
            talk.go_on(50)?;
            let before = counted(node, "forwarded")?;
            talk.go_on(MANY)?;
            let forwarded = counted(node, "forwarded")? - before;
            check(forwarded >= 2 * MANY, || format!("{forwarded} packets of {MANY} exchanges with {service}"))?;
            // One to the pod itself, from the only port there is: to the node both are one, until it has given this one
            // another port.
            let mut direct = Conversation::start(&near.host, &far.host, pod)?;
            let (start, mut rounds) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(1_500) {
                rounds += 1;
                talk.go_on(20).map_err(|error| format!("by {service}: {error}"))?;
                direct.go_on(20).map_err(|error| format!("beside {service}: {error}"))?;
            }
            // There are hundreds, and less than ten where each packet has to be sent again.
            check(rounds >= 20, || format!("{rounds} rounds of 40 exchanges by {service} and beside it"))?;
            for (talk, to) in [(talk, service), (direct, pod)] {
                let seen = talk.end()?;
                check(seen == near.address(like), || format!("{to} saw {seen}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_new_firewall_rule_applies_to_it_within_moments() {
    cluster(2, |lab| {
        three_pods(lab)?;
        for like in FAMILIES {
            let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
            let to = far.address(like);
            let mut talk = Conversation::start(&near.host, &far.host, to)?;
            talk.go_on(MANY)?;
            let family = if like.is_ipv4() { "ip" } else { "ip6" };
            let rule = format!("insert rule inet foreign forward {family} daddr {to} drop");
            lab.nodes[1].host.run("nft", &[&rule])?;
            // It is remembered for a second.
            let start = Instant::now();
            while talk.go_on(10).is_ok() {
                check(start.elapsed() < Duration::from_secs(4), || format!("{to} answers in spite of: {rule}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn large_transfers_arrive_complete() {
    cluster(2, |lab| {
        three_pods(lab)?;
        for like in FAMILIES {
            for (node, name) in [(1, "far"), (0, "beside")] {
                let (near, other) = (lab.nodes[0].pod("near"), lab.nodes[node].pod(name));
                let to = SocketAddr::new(other.address(like), PORT);
                let failed = |error: std::io::Error| format!("a transfer to {to}: {error}");
                let listener = other.host.enter(|| TcpListener::bind(to)).map_err(failed)?;
                let sink = thread::spawn(move || {
                    let (mut stream, mut all) = (listener.accept().unwrap().0, Vec::new());
                    stream.read_to_end(&mut all).map(|_| all)
                });
                let sent: Vec<u8> = (0..32_000_000_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
                let mut stream = near.host.enter(|| TcpStream::connect_timeout(&to, SOON)).map_err(failed)?;
                stream.write_all(&sent).map_err(failed)?;
                drop(stream);
                let arrived = sink.join().map_err(|_| "the sink panicked")?.map_err(failed)?;
                check(arrived == sent, || format!("{} of {} bytes arrived at {to}", arrived.len(), sent.len()))?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_pod_with_a_bandwidth_limit_does_not_use_it() {
    cluster(1, |lab| {
        let node = &lab.nodes[0];
        let mut configuration = runtime::configuration(&node.host, CONFLISTS)?;
        let limit = serde_json::json!({ "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 800_000 } });
        configuration["runtimeConfig"] = limit;
        let (pod, netns) = node.host.pod("slow")?;
        wire::set_up(&pod, "lo")?;
        Call::new("ADD", "slow", &netns, &configuration).execute(&node.host)?.result()?;
        // One that is not, so that there is something to wait for.
        let queued = look(&node.host, "ip", &["-j", "link"])?;
        let slow = queued.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
        let slow = slow.filter(|name| name.starts_with("pw")).map(str::to_owned).next().ok_or("no device")?;
        lab.nodes[0].add_pod("quick")?;
        let node = &lab.nodes[0].host;
        eventually(SOON, || {
            let links = look(node, "ip", &["-j", "link"])?;
            let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
            let quick = names.filter(|name| name.starts_with("pw") && *name != slow).map(str::to_owned).next();
            let [came, _] = programs(node, &quick.ok_or("no device")?)?;
            check(came.contains("podwire-forward"), || format!("at the other pod: {came}"))
        })?;
        let found = programs(node, &slow)?;
        check(found == [const { String::new() }; 2], || format!("at a pod with a limit: {found:?}"))?;
        // Somebody limits the other one by hand.
        let links = look(node, "ip", &["-j", "link"])?;
        let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
        let quick = names.filter(|name| name.starts_with("pw") && *name != slow).map(str::to_owned).next();
        let quick = quick.ok_or("no device")?;
        let bucket =
            ["qdisc", "add", "dev", &quick, "root", "tbf", "rate", "8mbit", "burst", "100k", "latency", "25ms"];
        node.run("tc", &bucket)?;
        eventually(SOON, || {
            let found = programs(node, &quick)?;
            check(found == [const { String::new() }; 2], || format!("at a pod that was given a limit: {found:?}"))
        })
    });
}

#[test]
fn removed_hooks_come_back_and_foreign_ones_stay() {
    cluster(2, |lab| {
        three_pods(lab)?;
        let host = &lab.nodes[0].host;
        let links = look(host, "ip", &["-j", "link"])?;
        let mut links = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
        let pod = links.find(|name| name.starts_with("pw")).ok_or("no device of a pod")?.to_owned();
        for device in ["podwire.1", &pod] {
            host.run("tc", &["qdisc", "del", "dev", device, "clsact"])?;
            wait_for_programs(lab)?;
        }
        let theirs = ["filter", "add", "dev", "podwire.1", "ingress", "prio", "7", "u32", "match", "u32", "0", "0"];
        host.run("tc", &theirs)?;
        let sysctl = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
        host.run("sh", &["-c", &format!("echo 0 > {sysctl}")])?;
        // Anything that is announced makes the daemon look.
        host.run("ip", &["link", "set", "lo", "down"])?;
        host.run("ip", &["link", "set", "lo", "up"])?;
        eventually(SOON, || {
            let found = host.run("cat", &[sysctl])?;
            check(found == "1", || format!("{sysctl} is {found}"))
        })?;
        let [came, _] = programs(host, "podwire.1")?;
        check(came.contains("pref 7 u32") && came.contains("podwire-forward"), || came)
    });
}

#[test]
fn it_can_be_disabled_while_pods_run() {
    cluster(2, |lab| {
        three_pods(lab)?;
        let theirs = ["filter", "add", "dev", "podwire.1", "ingress", "prio", "7", "u32", "match", "u32", "0", "0"];
        lab.nodes[0].host.run("tc", &theirs)?;
        for node in &mut lab.nodes {
            node.daemon = None;
            daemon::start_with_settings(node, "fast_path = false\n", &[])?;
            let host = &node.host;
            eventually(SOON, || {
                let [came, left] = programs(host, "podwire.1")?;
                check(!came.contains("podwire") && left.is_empty(), || format!("{came}, {left}"))?;
                check(came.contains("pref 7 u32") == (node.number == 1), || came.clone())
            })?;
            let table = host.run("nft", &["list", "table", "inet", "podwire"])?;
            check(!table.contains("priority set"), || table)?;
            let state = daemon::json(host, &["status", "--json"])?["fast_path_state"].clone();
            let right = state["state"] == "off" && state["why"] == "fast_path = false in the settings";
            check(right, || state.to_string())?;
        }
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        let to = far.address(FAMILIES[0]);
        let mut talk = Conversation::start(&near.host, &far.host, to)?;
        let before = counted(&lab.nodes[0].host, "forwarded")?;
        talk.go_on(MANY)?;
        let forwarded = counted(&lab.nodes[0].host, "forwarded")? - before;
        check(forwarded >= 2 * MANY, || format!("{forwarded} packets of {MANY} exchanges"))
    });
}

#[test]
fn without_the_capability_all_packets_take_the_normal_forwarding_path_and_status_says_so() {
    scene(1, |lab| {
        lab.start()?;
        let node = &mut lab.nodes[0];
        node.daemon = None;
        let by = ["setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all", "--no-new-privs"];
        let mut command = daemon::command(node, &by, &[])?;
        node.daemon = Some(node.host.start("podwired without CAP_BPF", &mut command)?);
        node.wait_ready()?;
        let status = daemon::once(&node.host, &["status"])?;
        check(status.contains("fast path   off") && status.contains("CAP_BPF"), || status)
    });
}
