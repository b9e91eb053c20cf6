//! `/metrics`, `/healthz` and `/readyz`: what a scraper and a supervisor get.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

use podwire_tests::lab::daemon::start;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, eventually};

const PORT: u16 = 9472;
const LISTEN: [&str; 2] = ["--metrics", "127.0.0.1:9472"];

/// Sends bytes and reads until the other side ends.
fn say(host: &Host, request: &[u8]) -> Outcome<String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(request)?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    host.enter(exchange).map_err(|error| format!("ask {} for metrics: {error}", host.name))
}

/// The status line and the body of a page.
pub(crate) fn get(host: &Host, path: &str) -> Outcome<(String, String)> {
    let answer = say(host, format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
    let length = format!("Content-Length: {}", body.len());
    check(head.contains(&length) && head.contains("Connection: close"), || head.to_owned())?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// The value of a series.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn until(host: &Host, series: &str, holds: impl Fn(f64) -> bool) -> Outcome<String> {
    eventually(SOON, || {
        let (_, page) = get(host, "/metrics")?;
        if value(&page, series).is_some_and(&holds) { Ok(page) } else { Err(format!("{series} in {page}")) }
    })
}

#[test]
fn metrics_show_convergence_repairs_peers_and_pods() {
    scene(2, |lab| {
        for node in &mut lab.nodes {
            start(node, &LISTEN)?;
        }
        lab.nodes.iter().try_for_each(podwire_tests::lab::node::Node::wait_ready)?;
        lab.nodes[0].add_pod("one")?;
        let host = lab.nodes[0].host.clone();
        let page = until(&host, "podwire_peers{state=\"answers\"}", |count| count == 1.0)?;
        for (series, wanted) in [
            ("podwire_converged", 1.0),
            ("podwire_fast_path", 1.0),
            ("podwire_membership_nodes", 2.0),
            ("podwire_mtu_bytes{device=\"overlay\"}", 1450.0),
            ("podwire_addresses_used{range=\"10.244.1.0/24\"}", 1.0),
            ("podwire_add_duration_seconds_count", 1.0),
            ("podwire_probe_loss_ratio{peer=\"node-2\",address=\"10.244.2.0\"}", 0.0),
            ("podwire_repairs_total{kind=\"route\"}", 0.0),
        ] {
            check(value(&page, series) == Some(wanted), || format!("{series} is not {wanted} in {page}"))?;
        }
        let problems: Vec<_> = page.lines().filter(|line| line.starts_with("podwire_problems{kind=")).collect();
        check(problems.len() > 20 && problems.iter().all(|line| line.ends_with("} 0")), || format!("{problems:#?}"))?;
        let round_trip = value(&page, "podwire_probe_round_trip_seconds{peer=\"node-2\",address=\"10.244.2.0\"}");
        check(round_trip.is_some_and(|took| took > 0.0 && took < 1.0), || page.clone())?;
        until(&host, "podwire_path_mtu_bytes{peer=\"node-2\"}", |size| size == 1500.0)?;

        // What was right and is made right again is a repair of its kind.
        host.run("ip", &["route", "delete", "10.244.2.0/24"])?;
        until(&host, "podwire_repairs_total{kind=\"route\"}", |count| count == 1.0)?;
        host.run("nft", &["flush", "ruleset"])?;
        until(&host, "podwire_repairs_total{kind=\"firewall\"}", |count| count >= 1.0)?;
        host.run("ip", &["link", "delete", "podwire.1"])?;
        let page = until(&host, "podwire_repairs_total{kind=\"link\"}", |count| count >= 1.0)?;
        check(value(&page, "podwire_repairs_total{kind=\"conflist\"}") == Some(0.0), || page)
    });
}

#[test]
fn a_node_that_has_not_joined_is_alive_and_not_ready() {
    scene(2, |lab| {
        lab.write(&Membership::of([1]))?;
        start(&mut lab.nodes[1], &LISTEN)?;
        let host = lab.nodes[1].host.clone();
        eventually(SOON, || {
            let (status, why) = get(&host, "/readyz")?;
            let told = status == "HTTP/1.1 503 Service Unavailable"
                && why == "not converged: membership: node node-2: is not in the membership, which lists node-1\n";
            check(told, || format!("{status}: {why}"))
        })?;
        check(get(&host, "/healthz")? == ("HTTP/1.1 200 OK".into(), "ok\n".into()), || "not alive".into())?;
        lab.write(&Membership::of(1..=2))?;
        eventually(SOON, || {
            let ready = get(&host, "/readyz")?;
            check(ready == ("HTTP/1.1 200 OK".into(), "ok\n".into()), || format!("{ready:?}"))
        })
    });
}

#[test]
fn every_request_gets_one_answer_and_the_next_client_is_served() {
    scene(1, |lab| {
        start(&mut lab.nodes[0], &LISTEN)?;
        lab.nodes[0].wait_ready()?;
        let host = lab.nodes[0].host.clone();
        eventually(SOON, || get(&host, "/healthz"))?;
        let long = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &vec![b'a'; 100_000], b"\r\n\r\n"].concat();
        for (request, answer) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 404 "),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 "),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "HTTP/1.1 400 "),
            (b"GET /metrics HTTP/1.1\r\nHost: a", "HTTP/1.1 400 "),
            (&long, "HTTP/1.1 431 "),
        ] {
            let said = say(&host, request)?;
            check(said.starts_with(answer), || format!("{answer}: {said}"))?;
        }
        let head = say(&host, b"HEAD /healthz HTTP/1.1\r\n\r\n")?;
        check(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), || head)?;
        // Who says nothing keeps nobody waiting.
        let silent =
            host.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))).map_err(|error| error.to_string())?;
        get(&host, "/healthz")?;
        drop(silent);
        Ok(())
    });
}

#[test]
fn a_listen_address_in_use_is_retried_and_nothing_listens_by_default() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let taken = host.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))).map_err(|error| error.to_string())?;
        start(&mut lab.nodes[0], &LISTEN)?;
        lab.nodes[0].wait_ready()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("listen on 127.0.0.1:9472 for metrics: Address already in use", SOON)?;
        drop(taken);
        eventually(SOON, || get(&host, "/healthz"))?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        lab.start()?;
        let listening = host.run("ss", &["-Hlnt"])?;
        check(listening.is_empty(), || listening)
    });
}
