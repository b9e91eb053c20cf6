//! `podwired uninstall` as a pod of a DaemonSet runs it: it waits for what is in its way, touches nothing meanwhile, and
//! stays when it is done.

use std::process::Command;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::process::Process;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, same, scene, state};
use podwire_tests::lab::{SOON, daemon, eventually, program};

const ARGUMENTS: [&str; 5] = ["uninstall", "--plugin-directory", "/run/cni/bin", "--state-directory", "/run/state"];

fn start(host: &Host, more: &[&str]) -> Outcome<Process> {
    let podwired = program("podwired").map_err(|error| error.to_string())?;
    host.start("podwired uninstall", Command::new(podwired).args(ARGUMENTS).args(more))
}

fn files(host: &Host) -> Outcome<String> {
    host.run("sh", &["-c", "ls -A /run/cni/bin /etc/cni/net.d /run/podwire/podwire/attachments"])
}

/// Waits until it has tried twice more: each try takes the daemon's lock, and writes its id into it.
fn tried_again(host: &Host) -> Outcome {
    let look = || host.run("stat", &["--format=%.Y", "/run/podwire/podwired.lock"]);
    (0..2).try_for_each(|_| {
        let before = look()?;
        eventually(SOON, || check(look()? != before, || "it does not try again".into()))
    })
}

#[test]
fn uninstall_waits_for_the_daemon_and_for_pods_and_keeps_running_when_done() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("mkdir", &["/run/state"])?;
        daemon::start(&mut lab.nodes[0], &["--plugin-directory", "/run/cni/bin"])?;
        lab.nodes[0].wait_ready()?;
        lab.nodes[0].add_pod("pod")?;
        // One of Kubernetes, which has a name there.
        let configuration = lab.nodes[0].configuration()?;
        let (_pod, netns) = host.pod("named")?;
        let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0";
        let named = Call::new("ADD", "named", &netns, &configuration).with("CNI_ARGS", arguments);
        named.execute(&host)?.result()?;
        // As a daemon with policies leaves it; the one that runs here has none.
        host.run("nft", &["add", "table", "inet", "podwire-policy"])?;
        let before = (state(&host)?, files(&host)?);
        let untouched = || {
            same("the node while it waits", &before.0, &state(&host)?)?;
            check(files(&host)? == before.1, || files(&host).unwrap_or_else(|why| why))
        };

        let mut staying = start(&host, &["--stay"])?;
        staying.wait_for("not yet: another podwired runs on this node", SOON)?;
        untouched()?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        staying.wait_for("not yet: pods are attached to this node's network", SOON)?;
        staying.wait_for("container pod", SOON)?;
        staying.wait_for("  pod default/web-0: 10.244.1.3 and fd00:10:244:1::3 of container named", SOON)?;
        tried_again(&host)?;
        untouched()?;
        // One that gets SIGTERM meanwhile has not done it.
        let mut waiting = start(&host, &["--wait"])?;
        waiting.wait_for("not yet: pods are attached", SOON)?;
        check(!waiting.stop(SOON)?.success(), || "it says that it is done".into())?;
        untouched()?;

        named.verb("DEL").execute(&host)?.result()?;
        host.remove_pod(&netns)?;
        lab.nodes[0].remove_pod("pod")?;
        staying.wait_for("not changed, since", SOON)?;
        eventually(SOON, || {
            let left = host.run(
                "sh",
                &["-c", "ls -d /run/podwire /run/state /run/cni/bin/* /etc/cni/net.d/* 2> /dev/null; true"],
            )?;
            check(left.is_empty(), || left)
        })?;
        check(host.run("ip", &["link", "show", "podwire.1"]).is_err(), || "the overlay is left".into())?;
        let tables = host.run("nft", &["list", "tables"])?;
        check(!tables.contains("podwire"), || tables.clone())?;
        let said = staying.said().into_iter().filter(|line| line.starts_with("not yet")).count();
        // One for the daemon, and one for the pods; a third where it has looked between the ends of both.
        check([2, 3].contains(&said), || format!("it says the same again and again: {:?}", staying.said()))?;
        // Done, and a second one finds nothing; the first is still there, asleep, and ends on SIGTERM.
        let again = daemon::once(&host, &[ARGUMENTS.as_slice(), &["--wait"]].concat())?;
        check(again == "nothing of podwire is on this node", || again)?;
        let status = host.run("cat", &[&format!("/proc/{}/status", staying.id())])?;
        check(status.contains("State:\tS"), || status)?;
        check(staying.stop(SOON)?.success(), || "its end is a failure".into())
    });
}
