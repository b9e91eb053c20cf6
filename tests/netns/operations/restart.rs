//! Stopping the daemon removes nothing; starting it again on a healthy node changes nothing.

use podwire_tests::lab::daemon::json;
use podwire_tests::lab::scene::{Outcome, check, cluster, same, scene, state};
use podwire_tests::lab::{SOON, eventually};

/// What a daemon that finds all as it should be says.
const SAID_AT_START: [&str; 3] = [" starts ", "checked what the kernel supports", "ready: "];

fn stop(node: &mut podwire_tests::lab::node::Node, how: &str) -> Outcome {
    let mut daemon = node.daemon.take().ok_or("no daemon")?;
    match how {
        "SIGKILL" => daemon.kill(),
        _ => {
            let status = daemon.stop(SOON)?;
            check(status.success(), || format!("it ended with {status}"))
        }
    }
}

#[test]
fn a_stopped_or_killed_daemon_leaves_everything_in_place_and_its_next_start_changes_nothing() {
    cluster(3, |lab| {
        lab.nodes[0].add_pod("pod")?;
        let before = state(&lab.nodes[0].host)?;
        for how in ["SIGTERM", "SIGKILL"] {
            stop(&mut lab.nodes[0], how)?;
            same(&format!("the node after {how}"), &before, &state(&lab.nodes[0].host)?)?;
            lab.nodes[0].start()?;
            lab.nodes[0].wait_ready()?;
            let said = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.said();
            let changes: Vec<_> =
                said.iter().filter(|line| !SAID_AT_START.iter().any(|part| line.contains(part))).collect();
            check(changes.is_empty(), || format!("after {how} it changed {changes:?}"))?;
            same(&format!("the node after a start after {how}"), &before, &state(&lab.nodes[0].host)?)?;
        }
        Ok(())
    });
}

#[test]
fn changes_made_while_no_daemon_ran_are_repaired_by_the_next_start() {
    cluster(3, |lab| {
        stop(&mut lab.nodes[0], "SIGTERM")?;
        lab.write(&podwire_tests::lab::membership::Membership::of(1..=2))?;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
        check(nexthops.lines().count() == 1 && nexthops.contains("dst 192.168.50.2 "), || nexthops)
    });
}

#[test]
fn b25_a_daemon_that_cannot_work_says_why_and_writes_no_conflist() {
    scene(1, |lab| {
        // Another VXLAN device has the port, as where flannel runs.
        let host = lab.nodes[0].host.clone();
        host.run("ip", &["link", "add", "flannel.1", "type", "vxlan", "id", "1", "dstport", "8472"])?;
        host.run("ip", &["link", "set", "flannel.1", "up"])?;
        lab.nodes[0].start()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("VXLAN device flannel.1 has UDP port 8472: remove it", SOON)?;
        check(!host.enter(|| std::path::Path::new("/etc/cni/net.d").exists()), || "a conflist was written".into())?;
        host.run("ip", &["link", "delete", "flannel.1"])?;
        lab.nodes[0].wait_ready()
    });
}

#[test]
fn a_failure_without_a_notification_of_its_end_is_retried() {
    scene(1, |lab| {
        // A file where the directory of the conflist should be: nobody hears of its end.
        let host = lab.nodes[0].host.clone();
        host.run("sh", &["-c", "mkdir /etc/cni && touch /etc/cni/net.d"])?;
        lab.nodes[0].start()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        daemon.wait_for("write /etc/cni/net.d/10-podwire.conflist: ", SOON)?;
        // Some full syncs go by, which warn of nothing new.
        eventually(SOON, || {
            let status = json(&host, &["status", "--json"])?;
            check(status["daemon"]["passes"].as_u64() >= Some(4), || status["daemon"].to_string())
        })?;
        host.run("rm", &["/etc/cni/net.d"])?;
        lab.nodes[0].wait_ready()?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let warnings = daemon.said().iter().filter(|line| line.contains("WARN")).count();
        check(warnings == 1, || format!("{warnings} warnings for one problem"))
    });
}

#[test]
fn a_second_daemon_on_a_node_is_refused_and_names_the_first() {
    cluster(1, |lab| {
        let first = lab.nodes[0].daemon.take().ok_or("no daemon")?;
        lab.nodes[0].start()?;
        let second = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let wanted = format!("another podwired runs on this node, process {}: stop that one first", first.id());
        second.wait_for(&wanted, SOON).map(drop)
    });
}

#[test]
fn wrong_arguments_are_answered_with_the_usage_and_a_missing_file_with_a_sentence() {
    let lab = podwire_tests::lab::Lab::new(1).unwrap();
    let run = |arguments: &[&str]| {
        let program = podwire_tests::lab::program("podwired").unwrap();
        let run = || std::process::Command::new(program).args(arguments).output();
        let output = lab.nodes[0].host.enter(run).unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["run", "--node-name", "a"]);
    assert!(code == Some(2) && text.contains("--nodes <FILE>"), "{code:?}: {text}");
    let (code, text) = run(&["run", "--node-name", "a", "--nodes", "/nonexistent"]);
    let wanted = "read the membership file /nonexistent: No such file or directory";
    assert!(code == Some(1) && text.contains(wanted), "{code:?}: {text}");
    assert!(!text.contains('\u{1b}'), "colour where no terminal is: {text:?}");
}
