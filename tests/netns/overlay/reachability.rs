//! The pods that ask one another (`reachability`), on three nodes: they say so when all reach all, and who does not.

use std::process::Command;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster};
use podwire_tests::lab::{Lab, SOON, eventually, program};

/// What a pod shows, when it is as requested.
fn shows(pod: &Host, well: bool, words: &[&str]) -> Outcome {
    let reachability = program("reachability").map_err(|error| error.to_string())?.display().to_string();
    // A round in which somebody does not answer takes four seconds.
    eventually(3 * SOON, || {
        let (shown, text) = match pod.run(&reachability, &["show"]) {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        check(shown == well && words.iter().all(|word| text.contains(word)), || text.clone())
    })
}

/// A pod on each node that finds its fellows by a name. The pods of a node look into its /etc/hosts.
fn furnish(lab: &mut Lab) -> Outcome {
    for (node, name) in lab.nodes.iter_mut().zip(["pod-a", "pod-b", "pod-c"]) {
        node.add_pod(name)?;
    }
    let addresses = lab.nodes.iter().flat_map(|node| &node.pods[0].addresses);
    let hosts: String = addresses.map(|address| format!("{address} fellows\n")).collect();
    for node in &mut lab.nodes {
        let lines = format!("rm -f /etc/hosts; printf '{hosts}' > /etc/hosts");
        node.host.run("sh", &["-ec", &lines])?;
        let mut command = Command::new(program("reachability").map_err(|error| error.to_string())?);
        let own: Vec<_> = node.pods[0].addresses.iter().map(ToString::to_string).collect();
        command.args(["serve", "fellows", "--every", "200"]).env("POD_IPS", own.join(","));
        command.env("POD_NAME", &node.pods[0].host.name).env("NODE_NAME", &node.host.name);
        node.pods[0].start(&mut command)?.wait_for("listens on port 8080", SOON)?;
    }
    Ok(())
}

#[test]
fn the_reachability_pods_print_their_matrix_and_find_a_broken_path_and_nat() {
    cluster(3, |lab| {
        furnish(lab)?;
        let well = ["9 of 9", "IPv6", "ok: each of 3 pods reaches all"];
        lab.nodes.iter().try_for_each(|node| shows(&node.pods[0].host, true, &well))?;

        // Nobody repairs what is broken now.
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        let [first, other] = [0, 1].map(|index| lab.nodes[index].pods[0].host.clone());
        for like in FAMILIES {
            let far = lab.nodes[2].pods[0].address(like);
            let family = if like.is_ipv4() { "-4" } else { "-6" };
            lab.nodes[0].host.run("ip", &[family, "route", "add", "unreachable", &far.to_string()])?;
            // Neither its questions arrive nor its answers; and whomever one asks, it is the same matrix.
            shows(&first, false, &["7 of 9", "9 of 9", &format!("FAILED pod-a (node-1): {far}: ")])?;
            shows(&other, false, &[&format!("pod-a (node-1): {far}: ")])?;
            lab.nodes[0].host.run("ip", &[family, "route", "delete", "unreachable", &far.to_string()])?;
            lab.nodes.iter().try_for_each(|node| shows(&node.pods[0].host, true, &well))?;
        }
        // What no pod may meet: another address than its own.
        let masquerade =
            "nft add table inet nat; nft add chain inet nat post '{ type nat hook postrouting priority 0; }'
            nft add rule inet nat post ip daddr 10.244.2.0/24 masquerade";
        lab.nodes[0].host.run("sh", &["-ec", masquerade])?;
        let nat = ["saw 10.244.1.", "which is not this pod's address"];
        shows(&first, false, &nat)
    });
}
