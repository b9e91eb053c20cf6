//! `podwired status`: what it says of a node, and its exit code.

use std::os::unix::fs::PermissionsExt;

use podwire_tests::lab::daemon::{json, podwired, start};
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{Outcome, check, cluster, scene};
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::Value;

const SOCKET: &str = "/run/podwire/podwired.sock";

fn status(lab: &Lab) -> Outcome<Value> {
    json(&lab.nodes[0].host, &["status", "--json"])
}

/// Waits until a status is as it should be; the status.
fn until(lab: &Lab, holds: impl Fn(&Value) -> bool) -> Outcome<Value> {
    eventually(SOON, || {
        let status = status(lab)?;
        if holds(&status) { Ok(status) } else { Err(format!("{status:#}")) }
    })
}

/// Whether there is a problem of this kind about this.
fn has(status: &Value, kind: &str, subject: &str) -> bool {
    let problems = status["problems"].as_array().into_iter().flatten();
    problems.into_iter().any(|problem| problem["kind"] == kind && problem["subject"] == subject)
}

#[test]
fn status_shows_the_node_and_its_exit_code_says_whether_it_is_ok() {
    cluster(3, |lab| {
        lab.nodes[0].add_pod("one")?;
        lab.nodes[0].add_pod("two")?;
        let host = lab.nodes[0].host.clone();
        let answers = |status: &Value| {
            status["peers"].as_array().is_some_and(|peers| {
                peers.len() == 2 && peers.iter().all(|peer| peer["state"] == "answers" && peer["path_mtu"] == 1500)
            })
        };
        let found = until(lab, answers)?;
        let nothing = serde_json::json!([]);
        check(found["converged"] == true && found["wrong"] == nothing && found["problems"] == nothing, || {
            found.to_string()
        })?;
        check(found["fast_path"] == "on" && found["fast_path_state"]["state"] == "on", || found.to_string())?;
        check(found["mtu"] == 1450 && found["underlay_mtu"] == 1500 && found["node"] == "node-1", || {
            found.to_string()
        })?;
        let membership = &found["membership"];
        let file = membership["source"] == "file /run/lab/nodes.toml" && membership["file"] == "/run/lab/nodes.toml";
        check(file, || membership.to_string())?;
        for (place, used) in [("10.244.1.0/24", 2), ("fd00:10:244:1::/64", 2)] {
            let range = found["ranges"].as_array().and_then(|ranges| ranges.iter().find(|it| it["range"] == place));
            check(range.is_some_and(|range| range["used"] == used), || found["ranges"].to_string())?;
        }
        check(found["ranges"][0]["free"] == 251 && found["adds"]["count"] == 2, || found.to_string())?;
        for peer in found["peers"].as_array().into_iter().flatten() {
            let probes = peer["probes"].as_array().map_or(0, Vec::len);
            check(probes == 2 && peer["probes"][0]["loss_percent"] == 0, || peer.to_string())?;
        }

        let ok = podwired(&host, &["status"])?;
        check(ok.code == Some(0) && ok.said.contains("\nOK "), || ok.said.clone())?;
        check(!ok.said.contains('\u{1b}'), || format!("colours where no terminal is: {:?}", ok.said))?;
        for part in [
            "node-2  192.168.50.2  10.244.2.0/24, fd00:10:244:2::/64  overlay  answers  ",
            "10.244.1.0/24       2     251",
        ] {
            check(ok.said.contains(part), || format!("no {part:?} in {}", ok.said))?;
        }

        // A rejected entry is a problem.
        let mut membership = Membership::of(1..=4);
        membership.nodes[3].1 = [127, 0, 0, 1].into();
        lab.write(&membership)?;
        let found = until(lab, |status| has(status, "entry-rejected", "node-4"))?;
        check(found["refused"][0]["node"] == "node-4" && found["converged"] == true, || found.to_string())?;
        let wrong = podwired(&host, &["status"])?;
        check(wrong.code == Some(1) && wrong.said.contains("wrong  membership: node node-4"), || wrong.said.clone())
    });
}

#[test]
fn a_daemon_that_does_not_answer_is_reported_with_an_exit_code_and_a_fix() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let before = podwired(&host, &["status"])?;
        let told =
            before.code == Some(2) && before.complaint.contains("no podwired has been started here since the boot");
        check(told && before.said.is_empty(), || before.complaint.clone())?;
        // Its socket outlives a daemon, and the next one takes its place.
        for _ in 0..2 {
            lab.start()?;
            check(podwired(&host, &["status"])?.code == Some(0), || "it does not answer".into())?;
            lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
            let dead = podwired(&host, &["status", "--json"])?;
            check(dead.code == Some(2) && dead.complaint.contains("podwired has ended"), || dead.complaint.clone())?;
        }
        Ok(())
    });
}

#[test]
fn the_socket_is_for_root_and_wrong_requests_are_answered_with_the_right_one() {
    cluster(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let mode = host.enter(|| std::fs::metadata(SOCKET).map(|it| it.permissions().mode() & 0o777));
        check(mode.as_ref().is_ok_and(|mode| *mode == 0o600), || format!("{mode:?}"))?;
        let ask = |question: &[u8]| {
            let question = question.to_vec();
            host.enter(move || -> std::io::Result<String> {
                use std::io::{Read, Write};
                let mut stream = std::os::unix::net::UnixStream::connect(SOCKET)?;
                stream.write_all(&question)?;
                stream.shutdown(std::net::Shutdown::Write)?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).map(|_| answer)
            })
            .map_err(|error| error.to_string())
        };
        let endless = [b'a'; 2000];
        let endless_explanation = [&b"explain default/a default/"[..], &endless].concat();
        for wrong in
            [&b"delete everything\n"[..], b"", b"status now\n", b"explanation\n", &endless, &endless_explanation]
        {
            let answer = ask(wrong)?;
            let is_short = answer.len() < 300;
            check(is_short && answer.contains("is no question: ask \\\"status\\\""), || answer)?;
        }
        check(
            ask(b"explain 10.0.0.1\n")? == "{\"refused\":\"ask for SOURCE DESTINATION [PORT[/PROTOCOL]]\"}\n",
            || "?".into(),
        )?;
        check(ask(b"status\n")?.starts_with("{\"version\":"), || "no status".into())
    });
}

#[test]
fn a_removed_or_replaced_socket_is_created_again() {
    cluster(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let others = format!("echo > {SOCKET}.other; mv {SOCKET}.other {SOCKET}");
        let damages =
            [format!("rm {SOCKET}"), "rm -r /run/podwire".into(), others, format!("mv {SOCKET} {SOCKET}.old")];
        for (before, damage) in damages.iter().enumerate() {
            host.run("sh", &["-ec", damage])?;
            // The daemon may be quicker than whoever looks whether it has done any harm: its words tell.
            eventually(SOON, || {
                let said = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.said();
                let line = "set the status socket /run/podwire/podwired.sock";
                let times = said.iter().filter(|said| said.contains(line)).count();
                check(times == before + 1, || format!("{damage}: made again {times} times"))
            })?;
            let answer = podwired(&host, &["status"])?;
            check(answer.code == Some(0), || format!("{damage}: {}{}", answer.said, answer.complaint))?;
            let found = host.run("stat", &["--format=%F %a", SOCKET])?;
            check(found.trim() == "socket 600", || format!("{damage}: {found}"))?;
        }
        Ok(())
    });
}

#[test]
fn a_peer_that_does_not_answer_over_the_overlay_is_reported_within_seconds() {
    scene(2, |lab| {
        // The underlay drops the overlay's port.
        for rule in ["add table inet eater", "add chain inet eater input { type filter hook input priority -300; }"] {
            lab.nodes[1].host.run("nft", &[rule])?;
        }
        lab.nodes[1].host.run("nft", &["add rule inet eater input udp dport 8472 drop"])?;
        lab.start()?;
        let found = until(lab, |status| status["peers"][0]["state"] == "silent")?;
        check(has(&found, "peer-silent", "node-2") && found["converged"] == true, || found["problems"].to_string())?;
        check(podwired(&lab.nodes[0].host, &["status"])?.code == Some(1), || "nothing is wrong?".into())
    });
}

#[test]
fn a_path_with_a_smaller_mtu_than_the_underlay_is_reported_with_its_mtu() {
    scene(2, |lab| {
        for rule in ["add table inet narrow", "add chain inet narrow input { type filter hook input priority -300; }"] {
            lab.nodes[1].host.run("nft", &[rule])?;
        }
        lab.nodes[1].host.run("nft", &["add rule inet narrow input meta length > 1410 drop"])?;
        lab.start()?;
        let found = until(lab, |status| has(status, "path-mtu-too-small", "node-2"))?;
        check(found["peers"][0]["path_mtu"] == 1400 && found["peers"][0]["state"] == "answers", || found.to_string())
    });
}

#[test]
fn probes_can_be_disabled() {
    scene(2, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("sh", &["-c", "echo 'probes = false' > /run/settings.toml"])?;
        start(&mut lab.nodes[0], &["--settings", "/run/settings.toml"])?;
        lab.nodes[0].wait_ready()?;
        lab.nodes[1].start()?;
        lab.nodes[1].wait_ready()?;
        // The other node probes, and is answered.
        eventually(SOON, || {
            let other = json(&lab.nodes[1].host, &["status", "--json"])?;
            check(other["peers"][0]["state"] == "answers", || other.to_string())
        })?;
        let own = status(lab)?;
        check(own["peers"][0]["state"] == "unknown" && own["peers"][0]["probes"] == serde_json::json!([]), || {
            own.to_string()
        })?;
        check(podwired(&host, &["status"])?.code == Some(0), || "something is wrong".into())
    });
}

#[test]
fn completions_are_scripts_for_three_shells() {
    let lab = Lab::new(1).unwrap();
    for (shell, part) in
        [("bash", "complete -F _podwired"), ("zsh", "#compdef podwired"), ("fish", "complete -c podwired")]
    {
        let script = podwired(&lab.nodes[0].host, &["completions", shell]).unwrap();
        assert!(script.code == Some(0) && script.said.contains(part) && script.said.contains("doctor"), "{shell}");
    }
}
