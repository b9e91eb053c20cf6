//! When nodes become Ready: after the overlay works, and not before.

use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::eventually;
use podwire_tests::lab::kube::{self, name};
use podwire_tests::lab::scene::{Outcome, check};

use crate::stage::{NODES, Stage, scene, until};

/// Where runtimes look for the conflist on a node.
const CONFLIST: &str = "/etc/cni/net.d/10-podwire.conflist";

/// How long a node is watched that must not become Ready: some of podwired's looks, and many of kubelet's.
const WATCHED: Duration = Duration::from_secs(8);

/// That a node has a route for every pod CIDR of the others.
pub(crate) fn reaches_all(stage: &Stage, number: u16) -> Outcome {
    let node = stage.node(number)?;
    let list = |family| node.run("ip", &[family, "route", "show", "proto", "112"]);
    let routes = format!("{}\n{}", list("-4")?, list("-6")?);
    for other in (1..=NODES).filter(|other| *other != number) {
        for prefix in stage.pod_cidrs(other)? {
            let there = routes.lines().any(|route| route.starts_with(&format!("{prefix} nhid ")));
            check(there, || format!("{} has no route to {prefix}: {routes}", node.name))?;
        }
    }
    Ok(())
}

/// What kubelet says of a node's network.
pub(crate) fn is_ready(stage: &Stage, number: u16) -> Outcome<String> {
    let path = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    stage.kubectl(&["get", "node", &name(number), path])
}

#[test]
fn a_node_is_ready_only_when_its_overlay_works() {
    scene("ready", |stage| {
        let node = stage.node(2)?;
        // A foreign device takes the overlay's port, and the conflist goes: as on a node that has never been Ready.
        until("the foreign device is faster than the daemon", || {
            let local = kube::addresses(2)[0].ip().to_string();
            // Gone if this is not the first attempt.
            let _ = node.run("ip", &["link", "delete", "strange"]);
            let line = format!("link add strange type vxlan id 1 dstport 8472 local {local}");
            node.run("ip", &line.split(' ').collect::<Vec<_>>())?;
            // By one process, since the daemon needs some milliseconds; to delete a device takes longer than that.
            let swap = "printf 'link set podwire.1 down\nlink set strange up\n' | ip -batch -";
            node.run("sh", &["-c", swap])?;
            node.run("ip", &["link", "delete", "podwire.1"]).map(drop)
        })?;
        node.run("rm", &["-f", CONFLIST])?;
        until("the node has noticed", || {
            let ready = is_ready(stage, 2)?;
            check(ready == "False", || format!("Ready is {ready}"))
        })?;
        let deadline = Instant::now() + WATCHED;
        while Instant::now() < deadline {
            let there = node.enter(|| std::path::Path::new(CONFLIST).exists());
            check(!there, || "there is a conflist, and no overlay".into())?;
            check(is_ready(stage, 2)? == "False", || "the node is Ready without an overlay".into())?;
            thread::sleep(Duration::from_millis(100));
        }
        node.run("ip", &["link", "delete", "strange"])?;
        eventually(WATCHED, || {
            let there = node.enter(|| std::path::Path::new(CONFLIST).exists());
            check(there, || "there is no conflist".into())
        })?;
        // The conflist came last.
        reaches_all(stage, 2)?;
        stage.all_ready()
    });
}

#[test]
fn one_manifest_makes_every_node_ready_with_routes_to_all_others() {
    scene("routes", |stage| (1..=NODES).try_for_each(|number| reaches_all(stage, number)));
}
