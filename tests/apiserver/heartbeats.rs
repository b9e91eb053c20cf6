//! Nodes that only say that they live cost next to nothing.

use std::fs;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_tests::lab::eventually;
use podwire_tests::lab::membership::underlay;
use podwire_tests::lab::scene::{Outcome, check, scene};
use serde_json::json;

use crate::api::{Api, NODES};
use crate::stage::{beat, node_with, share, start};

/// How many nodes there are, and how many reports; other numbers may be in the environment.
const NODES_HERE: (&str, u16) = ("PODWIRE_HEARTBEAT_NODES", 300);
const REPORTS: (&str, u16) = ("PODWIRE_HEARTBEATS", 1500);

/// What a report may cost of a processor, so that 5,000 nodes that report every five minutes take a hundredth of it. What was
/// not optimised takes many times as long; one that woke the reconcile loop would take more than that nevertheless.
const EACH: Duration = Duration::from_micros(600 * if cfg!(debug_assertions) { 4 } else { 1 });

/// The kernel counts processor time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

fn number((variable, usual): (&str, u16)) -> u16 {
    std::env::var(variable).map_or(Ok(usual), |text| text.parse()).expect("a number")
}

/// The processor time that a process has used.
fn used(process: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).map_err(|error| error.to_string())?;
    // Behind the name, which may have spaces: user and system time are the 14th and 15th field of all (proc(5)).
    let fields: Vec<_> = stat.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<u32>().map_err(|error| error.to_string());
    Ok(TICK * (ticks(11)? + ticks(12)?))
}

/// What a process has in memory, as the kernel words it.
fn resident(process: u32) -> Outcome<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).map_err(|error| error.to_string())?;
    let lines = status.lines().filter(|line| ["VmRSS", "VmHWM", "RssAnon"].iter().any(|name| line.starts_with(name)));
    Ok(lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", "))
}

fn name(number: u16) -> String {
    format!("peer-{number:05}")
}

/// Makes the nodes, several at a time.
fn populate(api: &Api, nodes: u16) -> Outcome {
    let make = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let four = IpNetwork::new([10, 128 | high, low, 0].into(), 24);
        let six = IpNetwork::new(format!("fd00:10:244:{number:x}::").parse().unwrap(), 64);
        let prefixes: Vec<_> = [four, six].into_iter().filter_map(Result::ok).collect();
        api.create(NODES, &node_with(&name(number), &[[10, 0, high, low].into()], &prefixes)).map(drop)
    };
    std::thread::scope(|scope| {
        let hands = (0..4).map(|hand| scope.spawn(move || (hand..nodes).step_by(4).try_for_each(make)));
        let hands: Vec<_> = hands.collect();
        hands.into_iter().try_for_each(|hand| hand.join().unwrap())
    })
}

#[test]
fn a_heartbeat_that_changes_nothing_of_ours_costs_next_to_nothing() {
    let (nodes, reports) = (number(NODES_HERE), number(REPORTS));
    scene(1, |lab| {
        let api = Api::start(&lab.outside)?;
        api.allow()?;
        share(lab, "kubeconfig", &api.kubeconfig(&api.token()?))?;
        share(lab, "podwired.toml", "cluster_cidrs = [\"10.128.0.0/9\", \"fd00:10:244::/48\"]\n")?;
        let own = [IpNetwork::new([10, 255, 0, 0].into(), 24).map_err(|error| error.to_string())?];
        api.create(NODES, &node_with("node-1", &[underlay(1)[0].ip()], &own))?;
        populate(&api, nodes)?;
        start(&mut lab.nodes[0])?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("ready: ", Duration::from_secs(120))?;
        let (said, begin) = (daemon.said().len(), used(daemon.id())?);
        for report in 0..reports {
            let conditions = json!([beat(report.into())]);
            let path = format!("{NODES}/{}/status", name(report % nodes));
            api.patch(&path, &json!({"status": {"conditions": conditions}}))?;
        }
        // What has been heard before this one is known to have arrived.
        let last = node_with("last", &[[10, 1, 0, 1].into()], &[IpNetwork::new([10, 254, 0, 0].into(), 24).unwrap()]);
        api.create(NODES, &last)?;
        eventually(Duration::from_secs(30), || {
            let routes = lab.nodes[0].host.run("ip", &["route", "show", "10.254.0.0/24"])?;
            check(!routes.is_empty(), || "the last node has not arrived".into())
        })?;
        let (cost, memory) = (used(daemon.id())? - begin, resident(daemon.id())?);
        let each = cost / u32::from(reports);
        eprintln!("{nodes} nodes, {reports} reports: {cost:?} of a processor, {each:?} each; {memory}");
        check(each <= EACH, || format!("a report has cost {each:?} of a processor, more than {EACH:?}"))?;
        // Nothing was changed but what is the last node's in the kernel and in the sets of the guards.
        const ITS: [&str; 4] =
            ["set neighbour ", "set nexthop ", "add route 10.254.0.0/24", "set the elements of set overlay-"];
        let lines = eventually(Duration::from_secs(10), || {
            let lines = daemon.said().split_off(said);
            check(lines.len() >= 7, || format!("{} lines for one new node: {lines:?}", lines.len())).map(|()| lines)
        })?;
        let its = lines.iter().filter(|line| ITS.iter().any(|one| line.contains(one))).count();
        check((its, lines.len()) == (7, 7), || format!("lines for one new node: {lines:?}"))
    });
}
