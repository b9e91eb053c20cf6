//! The membership file, followed while the daemon runs.

use std::process::Command;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::SHARED;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, field, json as look, reaches};
use podwire_tests::lab::{Lab, SOON, daemon, eventually, program};

/// What the issue allows between a change of the file and the routes.
const A_SECOND: Duration = Duration::from_secs(1);

/// The destinations that the first node has routes to peers for. (The JSON of these routes has the key `dst` twice.)
fn destinations(lab: &Lab) -> Outcome<Vec<String>> {
    let list = |family: &str| lab.nodes[0].host.run("ip", &[family, "route", "show", "proto", "112"]);
    let routes = format!("{}\n{}", list("-4")?, list("-6")?);
    let peers = routes.lines().filter(|line| line.contains(" nhid "));
    Ok(peers.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect())
}

fn expected(numbers: &[u16]) -> Vec<String> {
    let four = numbers.iter().map(|number| format!("10.244.{number}.0/24"));
    let six = numbers.iter().map(|number| format!("fd00:10:244:{number}::/64"));
    four.chain(six).collect()
}

/// Waits until the first node has routes to these nodes and no others; how long it took.
fn arrive(lab: &Lab, numbers: &[u16]) -> Outcome<Duration> {
    let start = Instant::now();
    eventually(SOON, || {
        let found = destinations(lab)?;
        check(found == expected(numbers), || format!("{found:?} instead of those of nodes {numbers:?}"))
    })?;
    Ok(start.elapsed())
}

#[test]
fn a_node_joins_and_leaves_within_a_second_by_rename_and_by_edit_in_place() {
    cluster(2, |lab| {
        arrive(lab, &[2])?;
        lab.add_node(3)?;
        let ways: [fn(&Lab, &Membership) -> Outcome; 2] = [Lab::write, Lab::edit];
        for way in ways {
            let mut took = Vec::new();
            // On a machine that is busy with something else one time in three is enough to show how long it takes.
            while took.len() < 3 && !took.iter().any(|(came, went)| *came < A_SECOND && *went < A_SECOND) {
                way(lab, &Membership::of(1..=3))?;
                let came = arrive(lab, &[2, 3])?;
                way(lab, &Membership::of(1..=2))?;
                took.push((came, arrive(lab, &[2])?));
            }
            let soon = took.iter().any(|(came, went)| *came < A_SECOND && *went < A_SECOND);
            check(soon, || format!("came and went after {took:?}"))?;
            let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
            let one = nexthops.starts_with("id 11200001 ") && nexthops.lines().count() == 1;
            check(one, || format!("nexthops left: {nexthops}"))?;
            let neighbours = look(&lab.nodes[0].host, "ip", &["-j", "neighbour", "show", "dev", "podwire.1"])?;
            check(field(&neighbours, "dst").len() == 1, || format!("neighbours left: {neighbours}"))?;
        }
        Ok(())
    });
}

#[test]
fn existing_pods_reach_a_node_that_joins() {
    cluster(1, |lab| {
        lab.nodes[0].add_pod("old")?;
        lab.add_node(2)?;
        lab.write(&Membership::of(1..=2))?;
        lab.nodes[1].start()?;
        lab.nodes[1].wait_ready()?;
        lab.nodes[1].add_pod("new")?;
        arrive(lab, &[2])?;
        let (old, new) = (lab.nodes[0].pod("old"), lab.nodes[1].pod("new"));
        let _responder = podwire_tests::lab::exchange::Responder::start(&new.host)?;
        FAMILIES.into_iter().try_for_each(|like| reaches(&old.host, old.address(like), new.address(like)))
    });
}

#[test]
fn a_node_that_changes_its_address_keeps_its_nexthop() {
    cluster(2, |lab| {
        let mut membership = Membership::of(1..=2);
        membership.nodes[1].1 = [192, 168, 50, 22].into();
        lab.write(&membership)?;
        eventually(SOON, || {
            let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
            check(nexthops.contains("id 11200001") && nexthops.contains("dst 192.168.50.22 "), || nexthops)
        })
    });
}

#[test]
fn an_invalid_entry_is_rejected_by_name_and_the_rest_is_used() {
    cluster(2, |lab| {
        let mut membership = Membership::of(1..=4);
        membership.nodes[2].1 = [127, 0, 0, 1].into();
        lab.write(&membership)?;
        arrive(lab, &[2, 4])?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("node node-3: address 127.0.0.1 is no address of a node", SOON)?;
        // Looked at again and again, and said once.
        let said = daemon.said().iter().filter(|line| line.contains("is no address of a node")).count();
        check(said == 1, || format!("said {said} times"))?;
        lab.write(&Membership::of(1..=4))?;
        arrive(lab, &[2, 3, 4])?;
        daemon.wait_for("resolved: membership: node node-3", SOON).map(drop)
    });
}

#[test]
fn an_unreadable_file_leaves_everything_as_it_is() {
    cluster(2, |lab| {
        let path = "/run/lab/nodes.toml";
        let host = lab.nodes[0].host.clone();
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        host.enter(|| std::fs::write(path, "cluster_cidrs = [")).map_err(|error| error.to_string())?;
        daemon.wait_for("going on with the last membership", SOON)?;
        host.enter(|| std::fs::remove_file(path)).map_err(|error| error.to_string())?;
        daemon.wait_for("No such file", SOON)?;
        arrive(lab, &[2])?;
        // And is followed again when it can be.
        lab.write(&Membership::of(1..=3))?;
        arrive(lab, &[2, 3]).map(drop)
    });
}

#[test]
fn a_node_that_is_not_listed_says_so_and_waits() {
    podwire_tests::lab::scene::scene(2, |lab| {
        lab.write(&Membership::of([1]))?;
        lab.nodes[1].start()?;
        let daemon = lab.nodes[1].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("node node-2: is not in the membership, which lists node-1", SOON)?;
        lab.write(&Membership::of(1..=2))?;
        lab.nodes[1].wait_ready()
    });
}

#[test]
fn a_change_of_the_underlays_mtu_reaches_the_device_and_the_conflist() {
    cluster(1, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("ip", &["link", "set", "eth0", "mtu", "1400"])?;
        eventually(SOON, || {
            let link = host.run("ip", &["link", "show", "podwire.1"])?;
            check(link.contains("mtu 1350"), || link)?;
            let configuration = lab.nodes[0].configuration()?;
            check(configuration["mtu"] == 1350, || configuration.to_string())
        })
    });
}

#[test]
fn a_file_that_is_being_written_is_not_read_before_it_is_complete() {
    cluster(3, |lab| {
        let text = Membership::of(1..=3).text();
        let half = text.find("[[node]]\nname = \"node-2\"").ok_or("no second node")?;
        let host = lab.nodes[0].host.clone();
        // Half a file that is a whole one by itself, then the rest: many times, so that looks fall between.
        let write =
            |text: &str| host.enter(|| std::fs::write("/run/lab/nodes.toml", text)).map_err(|error| error.to_string());
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            write(&text[..half])?;
            std::thread::sleep(Duration::from_millis(60));
            write(&text)?;
            std::thread::sleep(Duration::from_millis(60));
        }
        arrive(lab, &[2, 3])?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let removed: Vec<_> = daemon.said().into_iter().filter(|line| line.contains("remove")).collect();
        check(removed.is_empty(), || format!("it used half a file: {removed:?}"))
    });
}

#[test]
fn without_node_name_the_node_is_called_as_its_host_in_lower_case() {
    cluster(2, |lab| {
        let node = &mut lab.nodes[0];
        node.daemon.take().ok_or("no daemon")?.stop(SOON)?;
        let podwired = program("podwired").map_err(|error| error.to_string())?;
        // A host name is the UTS namespace's.
        let renamed = format!("hostname NODE-1 && exec {} run --nodes {SHARED}/nodes.toml", podwired.display());
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-ec", &renamed]).env_remove("NODE_NAME");
        node.daemon = Some(node.host.start("podwired of NODE-1", &mut command)?);
        node.wait_ready()?;
        let status = daemon::json(&node.host, &["status", "--json"])?;
        check(status["node"] == "node-1", || status["node"].to_string())?;

        // What is said comes first, and is taken as it is said.
        node.daemon.take().ok_or("no daemon")?.stop(SOON)?;
        command.env("NODE_NAME", "node-2");
        node.daemon = Some(node.host.start("podwired of node-2", &mut command)?);
        daemon::of(node)?.wait_for("starts node=\"node-2\"", SOON).map(drop)
    });
}
