//! The doctor's findings on what the kernel has once for the whole machine: the table of tracked connections and those of
//! neighbours. A namespace of its own sees neither, so here the node is the machine.

use std::net::UdpSocket;

use podwire_tests::lab::daemon::json;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{Outcome, check};
use podwire_tests::lab::{SOON, eventually};
use serde_json::Value;

use crate::machine::machine;

/// Plays on a machine that is one of two nodes and has a pod, with daemons that are ready.
#[track_caller]
fn node(body: impl FnOnce(&Host) -> Outcome) {
    machine(1, 2, |lab| {
        lab.start()?;
        lab.nodes[1].add_pod("pod")?;
        let host = lab.nodes[1].host.clone();
        nothing(&host)?;
        body(&host)?;
        lab.nodes[1].remove_pod("pod")
    });
}

fn findings(host: &Host) -> Outcome<Vec<Value>> {
    let found = json(host, &["doctor", "--json"])?;
    found.as_array().cloned().ok_or_else(|| found.to_string())
}

fn nothing(host: &Host) -> Outcome {
    eventually(SOON, || {
        let found = findings(host)?;
        check(found.is_empty(), || format!("{found:#?}"))
    })
}

/// That there is just one finding, of this kind about this; fixes it as it says, and then there is none.
fn only(host: &Host, kind: &str, subject: Option<&str>) -> Outcome {
    let found = findings(host)?;
    let [finding] = found.as_slice() else { return Err(format!("not one finding {kind}: {found:#?}")) };
    let right = finding["kind"] == kind && finding["subject"].as_str() == subject;
    check(right, || format!("not {kind} of {subject:?}: {finding:#}"))?;
    sh(host, finding["fix"].as_str().ok_or("no fix")?)?;
    nothing(host)
}

fn sh(host: &Host, line: &str) -> Outcome {
    host.run("sh", &["-ec", line]).map(drop)
}

/// A setting of the kernel's network.
fn number(host: &Host, path: &str) -> Outcome<u64> {
    let text = host.run("cat", &[&format!("/proc/sys/net/{path}")])?;
    text.parse().map_err(|error| format!("{path}: {error}: {text}"))
}

#[test]
fn a_conntrack_table_that_is_almost_full_is_found() {
    node(|host| {
        // A flow for each port that is sent from.
        let flows = || -> std::io::Result<()> {
            (0..200).try_for_each(|_| UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", "192.168.50.1:9").map(drop))
        };
        host.enter(flows).map_err(|error| format!("send: {error}"))?;
        let count = number(host, "netfilter/nf_conntrack_count")?;
        check(count >= 200, || format!("{count} connections are tracked"))?;
        nothing(host)?;
        sh(host, &format!("echo {} > /proc/sys/net/netfilter/nf_conntrack_max", count * 10 / 9))?;
        only(host, "conntrack-full", None)
    });
}

#[test]
fn neighbour_tables_that_are_almost_full_are_found() {
    node(|host| {
        for (family, prefix, table) in
            [("ipv4", "192.168.50.", "arp_cache"), ("ipv6", "fd00:192:168:50::", "ndisc_cache")]
        {
            let setting = format!("{family}/neigh/default/gc_thresh3");
            // Permanent ones take no room: there is more of them than the table has room for.
            let add = |from: u32, state: &str| {
                let line = format!("neigh replace {prefix}{{}} lladdr 02:00:00:00:00:01 nud {state} dev eth0");
                let lines = format!("seq {from} {} | sed 's/.*/{}/' | ip -batch -", from + 39, line.replace("{}", "&"));
                sh(host, &lines)
            };
            add(100, "permanent")?;
            let before = host.run("cat", &[&format!("/proc/net/stat/{table}")])?;
            check(before.lines().count() >= 2, || before.clone())?;
            sh(host, &format!("echo 60 > /proc/sys/net/{setting}"))?;
            nothing(host).map_err(|why| format!("{family}, permanent ones: {why}: {before}"))?;
            // The kernel goes by them as well.
            add(140, "reachable").and_then(|()| add(180, "reachable")).err().ok_or("the table is not full yet")?;
            only(host, "neighbours-full", Some(family))?;
            check(number(host, &setting)? > 60, || "not fixed".into())?;
        }
        Ok(())
    });
}
