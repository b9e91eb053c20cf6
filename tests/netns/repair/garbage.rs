//! What dead pods hold is released by the daemon, where no runtime does it; what lives, or is being attached, is left
//! alone. The scenes with a runtime that has a CRI are among those of the runtimes.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::{Node, Pod};
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, same, scene};
use podwire_tests::lab::{SOON, daemon, eventually};
use serde_json::{Value, json};

use crate::plugin::attachment::{changed, ledger, snapshot};

/// The time that a pod has to look dead in these scenes.
const AFTER: Duration = Duration::from_secs(1);
const SETTINGS: &str = "garbage_after_seconds = 1\n";

/// Longer than what has to be waited for before something that looks dead is released.
const LONG_ENOUGH: Duration = Duration::from_millis(2500);

/// That something holds all the time: there is nothing to be waited for when nothing is to happen.
fn stays(what: &str, look: impl Fn() -> Outcome<Value>) -> Outcome {
    let (before, since) = (look()?, Instant::now());
    while since.elapsed() < LONG_ENOUGH {
        same(what, &before, &look()?)?;
    }
    Ok(())
}

/// What the daemon has said of releasing.
fn released(node: &Node) -> Outcome<Vec<String>> {
    let said = daemon::of(node)?.said();
    Ok(said.into_iter().filter(|line| line.contains("released ")).collect())
}

/// That it says so of so many, a moment after it has done it.
fn says_released(node: &Node, count: usize) -> Outcome<Vec<String>> {
    eventually(SOON, || {
        let lines = released(node)?;
        check(lines.len() == count, || format!("not {count}: {}", lines.join("\n"))).map(|()| lines)
    })
}

/// Attaches a pod with a host port, whose namespace the scene can take away.
fn published(node: &Node, name: &str, port: u16) -> Outcome<std::path::PathBuf> {
    let ports = json!({"portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "udp"}]});
    let configuration = changed(&node.configuration()?, "/runtimeConfig", ports);
    let (_, path) = node.host.pod(name)?;
    Call::new("ADD", name, &path, &configuration).execute(&node.host)?.result()?;
    Ok(path)
}

#[test]
fn leases_of_dead_pods_are_released_without_a_call_of_the_runtime() {
    scene(1, |lab| {
        daemon::start_with_settings(&mut lab.nodes[0], SETTINGS, &[])?;
        let living = lab.nodes[0].add_pod("living")?.host.clone();
        let node = &lab.nodes[0];
        // The sets of the first host port stay for all.
        let first = published(node, "first", 8079)?;
        Call::new("DEL", "first", &first, &node.configuration()?).execute(&node.host)?.silent()?;
        let before = snapshot(&node.host, &[&living])?;
        let since = Instant::now();
        for (number, name) in ["dead", "gone"].into_iter().enumerate() {
            let path = published(node, name, 8080 + u16::try_from(number).unwrap_or(0))?;
            node.host.remove_pod(&path)?;
        }
        // With an ADD that was killed, which has a record among the pending ones.
        node.host.run("sh", &["-ec", "cd /run/podwire/podwire; mv $(grep -l '\"gone\"' attachments/*) pending"])?;
        eventually(SOON, || same("the node", &before, &snapshot(&node.host, &[&living])?))?;
        check(since.elapsed() >= AFTER, || format!("released after {:?}", since.elapsed()))?;
        let lines = says_released(node, 2)?;
        let named = |name: &str| {
            let text = format!("of container {name} (eth0, network podwire): its device is gone");
            lines.iter().filter(|line| line.contains(&text)).count()
        };
        check(named("dead") == 1 && named("gone") == 1, || lines.join("\n"))?;
        stays("the node afterwards", || snapshot(&node.host, &[&living]))?;
        check(released(node)? == lines, || format!("{:?}", released(node)))?;
        // The runtime's late DEL is no error.
        let late = Call::new("DEL", "dead", std::path::Path::new("/run/netns/dead"), &node.configuration()?);
        late.execute(&node.host)?.silent()
    });
}

/// The file that is locked while an ADD or a DEL of the only attachment is under way.
fn lock_of(host: &Host) -> Outcome<String> {
    host.run("sh", &["-ec", "cd /run/podwire/podwire; echo $PWD/turns/$(ls attachments)"])
}

#[test]
fn a_pod_that_is_being_attached_is_never_released() {
    scene(1, |lab| {
        daemon::start_with_settings(&mut lab.nodes[0], SETTINGS, &[])?;
        let node = &lab.nodes[0];
        let path = published(node, "slow", 8080)?;
        let lock = lock_of(&node.host)?;
        // Somebody is at it, and has not made the device yet.
        let mut flock = std::process::Command::new("flock");
        flock.args(["--no-fork", &lock, "sh", "-c", "echo locked; exec sleep infinity"]);
        let busy = node.host.start("an ADD", &mut flock)?;
        busy.wait_for("locked", SOON)?;
        node.host.run("ip", &["-n", "slow", "link", "delete", "eth0"])?;
        stays("what is being attached", || Ok(ledger(&node.host)))?;
        check(released(node)?.is_empty(), || format!("{:?}", released(node)))?;
        drop(busy);
        eventually(SOON, || {
            let held = ledger(&node.host);
            check(held.as_object().is_none_or(|held| held.is_empty()), || format!("still held: {held}"))
        })?;
        node.host.remove_pod(&path)
    });
}

#[test]
fn a_runtime_that_does_not_answer_keeps_everything_and_is_reported_once() {
    scene(1, |lab| {
        // A socket that nobody listens on any more.
        let host = lab.nodes[0].host.clone();
        let bound = host.enter(|| UnixListener::bind("/run/cri.sock").map(drop));
        bound.map_err(|error| format!("bind /run/cri.sock: {error}"))?;
        daemon::start_with_settings(&mut lab.nodes[0], SETTINGS, &["--cri-socket", "/run/cri.sock"])?;
        let node = &lab.nodes[0];
        let path = published(node, "dead", 8080)?;
        host.remove_pod(&path)?;
        stays("what a silent runtime may know of", || Ok(ledger(&host)))?;
        let said = daemon::of(node)?.said();
        let warnings: Vec<_> = said.iter().filter(|line| line.contains("WARN")).collect();
        let words = "list the pod sandboxes of the container runtime at /run/cri.sock: Connection refused";
        check(warnings.len() == 1 && warnings[0].contains(words), || format!("{warnings:?}"))
    });
}

#[test]
fn garbage_collection_can_be_disabled() {
    scene(1, |lab| {
        daemon::start_with_settings(&mut lab.nodes[0], "garbage_after_seconds = 0\n", &[])?;
        let node = &lab.nodes[0];
        let path = published(node, "dead", 8080)?;
        node.host.remove_pod(&path)?;
        stays("what nobody releases", || Ok(ledger(&node.host)))
    });
}

#[test]
fn a_node_that_returns_with_another_pod_cidr_is_not_blocked_by_leftovers() {
    use podwire_tests::lab::membership::{Membership, pod_cidrs};
    scene(2, |lab| {
        daemon::start_with_settings(&mut lab.nodes[0], SETTINGS, &[])?;
        lab.nodes[0].add_pod("old")?;
        // The node has left, and joins again as another.
        drop(lab.nodes[0].daemon.take());
        let mut membership = Membership::of(1..=2);
        membership.nodes[0].2 = pod_cidrs(9);
        lab.write(&membership)?;
        daemon::start_with_settings(&mut lab.nodes[0], SETTINGS, &[])?;
        let node = &mut lab.nodes[0];
        let Pod { netns: old, addresses, .. } = node.pods.pop().ok_or("no pod")?;
        let address = addresses[0].to_string();
        let new = node.add_pod("new")?.addresses.clone();
        check(new.iter().any(|address| address.to_string() == "10.244.9.2"), || format!("{new:?}"))?;
        // The old pod keeps its route for as long as it lives, and then goes like any other.
        let routes = || node.host.run("ip", &["route", "show", "proto", "113"]);
        check(routes()?.contains(&address), || format!("{address} is not in {:?}", routes()))?;
        node.host.remove_pod(&old)?;
        eventually(SOON, || {
            let held = ledger(&node.host);
            check(!held.to_string().contains(&address), || format!("still held: {held}"))
        })?;
        says_released(node, 1).map(drop)
    });
}
