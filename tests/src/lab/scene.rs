//! How a scene is played, and how it looks at the kernel: whole, by other programs than ours.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

use std::net::IpAddr;

use serde_json::Value;

use super::exchange::exchange;
use super::host::Host;
use super::{Lab, SOON};
use crate::lab;

/// What a step of a scene answers.
pub type Outcome<T = ()> = Result<T, String>;

/// The two families, as an address of each.
pub const FAMILIES: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];

/// Plays a scene in a lab of some nodes. When it fails it explains itself: what each host looks like and what each daemon
/// has said. With PODWIRE_HOLD=1 in the environment it then waits for Enter, and says how to get in meanwhile.
#[track_caller]
pub fn scene(nodes: u16, body: impl FnOnce(&mut Lab) -> Outcome) {
    let mut lab = Lab::new(nodes).unwrap();
    let Err(why) = body(&mut lab) else { return };
    for node in &lab.nodes {
        eprintln!("{}", lab::describe(&node.host));
        for pod in &node.pods {
            eprintln!("{}", lab::describe(&pod.host));
        }
    }
    eprintln!("{}", lab.said());
    if std::env::var_os("PODWIRE_HOLD").is_some() {
        for (name, line) in lab.entrances() {
            eprintln!("{name:<12} {line}");
        }
        eprintln!("failed: {why}\nPress Enter to go on.");
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
    panic!("{why}");
}

/// Plays a scene in a lab whose daemons are ready.
#[track_caller]
pub fn cluster(nodes: u16, body: impl FnOnce(&mut Lab) -> Outcome) {
    scene(nodes, |lab| {
        lab.start()?;
        body(lab)
    });
}

/// The JSON that a program prints on a host; no output is an empty list.
pub fn json(host: &Host, program: &str, arguments: &[&str]) -> Outcome<Value> {
    let text = host.run(program, arguments)?;
    let text = if text.is_empty() { "[]" } else { &text };
    serde_json::from_str(text).map_err(|error| format!("{program} {}: {error}: {text}", arguments.join(" ")))
}

/// The whole network of a host: devices with their settings, addresses, routes of all tables, rules, neighbours,
/// nexthops, accepted VXLAN networks, nftables and whether it forwards. What moves by itself (counters, ages, the names of namespaces, handles) is left out.
///
/// It is looked at until two looks agree: some of it (an IPv6 address's own route, a device's state of operation) the
/// kernel makes a little after it has answered.
pub fn state(host: &Host) -> Outcome<Value> {
    let mut last = look(host)?;
    lab::eventually(SOON, || {
        let now = look(host)?;
        let settled = now == last;
        last = now;
        check(settled, || format!("the network of {} does not come to rest", host.name))
    })?;
    Ok(last)
}

fn look(host: &Host) -> Outcome<Value> {
    let looks: [(&str, &str, &[&str]); 9] = [
        ("links", "ip", &["-d", "-j", "link"]),
        ("addresses", "ip", &["-j", "address"]),
        ("routes", "ip", &["-j", "route", "show", "table", "all"]),
        ("routes6", "ip", &["-6", "-j", "route", "show", "table", "all"]),
        ("rules", "ip", &["-j", "rule"]),
        ("neighbours", "ip", &["-j", "neighbour", "show", "nud", "permanent"]),
        ("nexthops", "ip", &["-j", "nexthop"]),
        ("networks", "bridge", &["-j", "vni"]),
        ("nftables", "nft", &["-j", "list", "ruleset"]),
    ];
    let mut state = Value::Object(serde_json::Map::new());
    for (name, program, arguments) in looks {
        let mut found = json(host, program, arguments)?;
        settle(&mut found);
        state[name] = found;
    }
    let forwarding = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
    state["forwarding"] = host.run("cat", &forwarding)?.into();
    Ok(state)
}

/// Takes away what moves by itself, and sorts what has no order.
fn settle(value: &mut Value) {
    const MOVING: [&str; 12] = [
        "handle",
        "link_netnsid",
        "valid_life_time",
        "preferred_life_time",
        "metainfo",
        "expires",
        "packets",
        "bytes",
        // A bridge's clocks.
        "hello_timer",
        "tcn_timer",
        "topology_change_timer",
        "gc_timer",
    ];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !MOVING.contains(&name.as_str()));
            // What rules record in a set of nftables comes and goes with packets.
            if fields.contains_key("timeout") {
                fields.remove("elem");
            }
            fields.values_mut().for_each(settle);
        }
        Value::Array(entries) => {
            entries.iter_mut().for_each(settle);
            // A device's link-local address comes and settles by itself.
            entries.retain(|entry| !comes_by_itself(entry));
            if entries.iter().all(|entry| entry.get("ifname").is_none() && entry.get("rule").is_none()) {
                entries.sort_by_key(ToString::to_string);
            }
        }
        _ => {}
    }
}

fn comes_by_itself(entry: &Value) -> bool {
    let starts = |name: &str| entry[name].as_str().is_some_and(|text| text.starts_with("fe80:"));
    let empty = entry.as_object().is_some_and(serde_json::Map::is_empty);
    empty || (starts("local") && entry["prefixlen"] == 64) || (starts("dst") && entry.get("lladdr").is_none())
}

/// The values of one field of a list.
pub fn field(list: &Value, name: &str) -> Vec<String> {
    let text = |entry: &Value| entry[name].as_str().map_or_else(|| entry[name].to_string(), str::to_owned);
    list.as_array().into_iter().flatten().map(text).collect()
}

/// That two values are equal; a failure names where they differ.
#[track_caller]
pub fn same(what: &str, before: &Value, after: &Value) -> Outcome {
    let mut differences = Vec::new();
    compare("", before, after, &mut differences);
    if differences.is_empty() { Ok(()) } else { Err(format!("{what}: {}", differences.join("; "))) }
}

fn compare(place: &str, before: &Value, after: &Value, differences: &mut Vec<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for name in names {
                compare(&format!("{place}.{name}"), &before[name.as_str()], &after[name.as_str()], differences);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (number, (before, after)) in one.iter().zip(other).enumerate() {
                compare(&format!("{place}[{number}]"), before, after, differences);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            let only = |these: &[Value], those: &[Value]| {
                let only: Vec<_> =
                    these.iter().filter(|entry| !those.contains(entry)).map(ToString::to_string).collect();
                only.join(", ")
            };
            differences.push(format!("{place} has lost [{}] and gained [{}]", only(one, other), only(other, one)));
        }
        _ => differences.push(format!("{place} was {before} and is {after}")),
    }
}

/// That a token from one host comes back from an address, and that the other side saw `source`.
pub fn reaches(from: &Host, source: IpAddr, to: IpAddr) -> Outcome {
    let seen = exchange(from, to)?.seen;
    if seen == source { Ok(()) } else { Err(format!("from {} to {to}: seen as {seen}, not {source}", from.name)) }
}

/// A condition that has to hold, as a step of a scene.
pub fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}
