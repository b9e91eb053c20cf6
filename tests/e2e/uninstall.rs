//! The way out: the steps that uninstall.yaml tells take podwire from every node, and the one manifest brings it back.

use std::path::Path;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::kube::name;
use podwire_tests::lab::scene::{Outcome, check};

use crate::ready::{is_ready, reaches_all};
use crate::stage::{NODES, Stage, repository, scene, until};

/// What is podwire's on a node's file system.
const FILES: [&str; 5] = [
    "/etc/cni/net.d/10-podwire.conflist",
    "/opt/cni/bin/podwire",
    "/run/podwire",
    "/var/lib/podwire",
    "/run/podwire/podwired.sock",
];

/// What bears podwire's mark on a node, line by line.
fn marks(node: &Host) -> Outcome<String> {
    let list = |program: &str, arguments: &[&str]| {
        let said = node.run(program, arguments)?;
        let name = arguments.join(" ");
        Ok::<_, String>(said.lines().map(|line| format!("{name}: {line}\n")).collect::<String>())
    };
    let mut found = String::new();
    for protocol in ["112", "113"] {
        for family in ["-4", "-6"] {
            found += &list("ip", &[family, "route", "show", "table", "all", "proto", protocol])?;
        }
        found += &list("ip", &["nexthop", "show", "proto", protocol])?;
    }
    let links = list("ip", &["-brief", "link"])?;
    let ours = |line: &&str| ["podwire", " pw", " ps"].iter().any(|mark| line.contains(mark));
    found.extend(links.lines().filter(ours).map(|line| format!("{line}\n")));
    let tables = list("nft", &["list", "tables"])?;
    found.extend(tables.lines().filter(|line| line.contains("podwire")).map(|line| format!("{line}\n")));
    let there = FILES.iter().filter(|path| node.enter(|| Path::new(path).exists()));
    found.extend(there.map(|path| format!("file: {path}\n")));
    Ok(found)
}

#[test]
fn the_uninstall_manifest_leaves_nothing_and_installing_again_makes_all_nodes_ready() {
    scene("uninstall", |stage| {
        stage.run_server("last", 1)?;
        let manifest = |name: &str| repository(&format!("conf/kubernetes/{name}")).display().to_string();
        let (install, uninstall) = (manifest("podwire.yaml"), manifest("uninstall.yaml"));
        for node in stage.nodes()? {
            check(!marks(&node)?.is_empty(), || format!("{} has nothing of podwire's to begin with", node.name))?;
        }
        let say = |arguments: &[&str]| stage.place.ask(arguments);
        say(&["--namespace=podwire", "delete", "daemonset", "podwired", "--timeout=240s"])?;
        let nodes: Vec<_> = (1..=NODES).map(name).collect();
        let names: Vec<_> = nodes.iter().map(String::as_str).collect();
        let options = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=240s"];
        say(&[&["drain"], &names[..], &options].concat())?;
        say(&["apply", "--filename", &uninstall])?;
        say(&["--namespace=podwire", "rollout", "status", "daemonset/podwire-uninstall", "--timeout=240s"])?;
        say(&["delete", "--ignore-not-found", "--filename", &uninstall, "--filename", &install, "--timeout=240s"])?;
        for node in stage.nodes()? {
            let marks = marks(&node)?;
            check(marks.is_empty(), || format!("{} still has\n{marks}", node.name))?;
        }
        for number in 1..=NODES {
            until("kubelet has noticed", || {
                let ready = is_ready(stage, number)?;
                check(ready == "False", || format!("{} without a network is Ready: {ready}", name(number)))
            })?;
        }

        say(&["apply", "--filename", &install])?;
        say(&[&["uncordon"], &names[..]].concat())?;
        back(stage)
    });
}

/// That all is as it was before.
fn back(stage: &Stage) -> Outcome {
    stage.begins()?;
    (1..=NODES).try_for_each(|number| reaches_all(stage, number))?;
    stage.run_server("first", 1).map(drop)
}
