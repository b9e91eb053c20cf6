//! The API server goes away, for a while or for ever.

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, reaches, same, state};
use podwire_tests::lab::{SOON, eventually};

use crate::api::NODES;
use crate::stage::{STATE, arrive, cluster, node, start};

/// What a daemon says when it loses the API, and when it has it again.
const LOST: &str = "keeping the nodes that are known";
const FOUND: &str = "the Kubernetes API answers again";

/// What an API server that has just started says to an account whose rights it has not read yet: a loss of another kind.
const NOT_YET: &str = "is forbidden";

/// That a node's daemon has said each of two things so many times.
fn said(node: &Node, times: [(&str, usize); 2]) -> Outcome {
    let said = node.daemon.as_ref().ok_or("no daemon")?.said();
    times.into_iter().try_for_each(|(text, times)| {
        let found = said.iter().filter(|line| line.contains(text) && !line.contains(NOT_YET)).count();
        check(found == times, || format!("{} said {text:?} {found} times, not {times}", node.host.name))
    })
}

fn wait_for(node: &Node, text: &str) -> Outcome {
    node.daemon.as_ref().ok_or("no daemon")?.wait_for(text, SOON * 2).map(drop)
}

/// Waits until a name is among the cached nodes of a node, which is a little after it was programmed.
fn cached(node: &Node, name: &str) -> Outcome {
    eventually(SOON, || {
        let text = node.host.run("cat", &[&format!("{STATE}/membership.json")])?;
        check(text.contains(name), || format!("cached: {text}"))
    })
}

/// What a reboot leaves of the overlay: nothing.
fn forget(host: &Host) -> Outcome {
    host.run("ip", &["link", "delete", "podwire.1"])?;
    for family in ["-4", "-6"] {
        host.run("ip", &[family, "route", "flush", "proto", "112"])?;
    }
    host.run("nft", &["flush", "ruleset"])?;
    host.run("rm", &["/etc/cni/net.d/10-podwire.conflist"]).map(drop)
}

#[test]
fn without_the_api_pods_start_and_stop_and_a_rebooted_node_has_its_overlay() {
    cluster(2, |lab, api| {
        api.create(NODES, &node(3))?;
        lab.nodes.iter().zip([[2, 3], [1, 3]]).try_for_each(|(node, peers)| arrive(node, &peers))?;
        lab.nodes[1].add_pod("far")?;
        let _responder = Responder::start(&lab.nodes[1].pod("far").host)?;
        let before = state(&lab.nodes[0].host)?;
        cached(&lab.nodes[0], "node-3")?;
        api.kill()?;
        lab.nodes.iter().try_for_each(|node| wait_for(node, LOST))?;
        // Pods come and go, and reach one another.
        for round in ["first", "second"] {
            lab.nodes[0].add_pod(round)?;
            let (near, far) = (lab.nodes[0].pod(round), lab.nodes[1].pod("far"));
            FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))?;
            lab.nodes[0].remove_pod(round)?;
        }
        same("the node without the API", &before, &state(&lab.nodes[0].host)?)?;
        // A node that is switched off and on again.
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        forget(&lab.nodes[0].host)?;
        start(&mut lab.nodes[0])?;
        wait_for(&lab.nodes[0], LOST)?;
        lab.nodes[0].wait_ready()?;
        arrive(&lab.nodes[0], &[2, 3])?;
        lab.nodes[0].add_pod("third")?;
        let (near, far) = (lab.nodes[0].pod("third"), lab.nodes[1].pod("far"));
        FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))?;
        // These daemons do not hear what others change meanwhile. The one that ran all the time knows a point
        // that the API does not remember any more.
        let other = api.second()?;
        other.delete(&format!("{NODES}/node-3"))?;
        other.create(NODES, &node(4))?;
        api.start_again()?;
        lab.nodes.iter().try_for_each(|node| wait_for(node, FOUND))?;
        lab.nodes.iter().zip([[2, 4], [1, 4]]).try_for_each(|(node, peers)| arrive(node, &peers))?;
        lab.nodes.iter().try_for_each(|node| said(node, [(LOST, 1), (FOUND, 1)]))
    });
}

#[test]
fn damaged_cached_nodes_are_reported_and_nothing_is_removed_before_the_nodes_are_known() {
    cluster(1, |lab, api| {
        api.create(NODES, &node(2))?;
        arrive(&lab.nodes[0], &[2])?;
        cached(&lab.nodes[0], "node-2")?;
        let host = lab.nodes[0].host.clone();
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        host.run("sh", &["-c", &format!("printf '{{\"node\":[{{' > {STATE}/membership.json")])?;
        api.kill()?;
        let before = state(&host)?;
        start(&mut lab.nodes[0])?;
        wait_for(&lab.nodes[0], &format!("cached nodes {STATE}/membership.json: EOF while parsing"))?;
        wait_for(&lab.nodes[0], LOST)?;
        same("the node without any membership", &before, &state(&host)?)?;
        // SIGTERM ends it, whatever it waits for.
        let status = lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        check(status.success(), || format!("it ended with {status}"))?;
        start(&mut lab.nodes[0])?;
        api.start_again()?;
        wait_for(&lab.nodes[0], "ready: ")?;
        same("the node after all", &before, &state(&host)?)?;
        cached(&lab.nodes[0], "node-2")
    });
}
