//! A ruleset that was saved by `nft list ruleset` is loaded again as a whole, ours in it, as `nftables.service` and many
//! scripts do.

use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, reaches, same, scene, state};
use podwire_tests::lab::{Lab, SOON, daemon, eventually};

use crate::overlay::guards::over;

use super::host_ports::{answers, serve, with_port};

/// The number of reconciles and of repairs of the firewall so far.
fn repairs(lab: &Lab) -> Outcome<u64> {
    let status = daemon::json(&lab.nodes[0].host, &["status", "--json"])?;
    Ok(status["daemon"]["repairs"]["firewall"].as_u64().unwrap_or(0))
}

#[test]
fn a_saved_ruleset_is_loaded_again_as_a_whole_and_is_what_the_daemon_wants() {
    // Each rule that a setting adds or changes, and prefixes of every sort of length.
    let cases = [
        (FAMILIES[0], ""),
        (FAMILIES[0], "masquerade = false\nfast_path = false\naccept_plain = true"),
        (FAMILIES[0], "refused_destinations = [\"169.254.169.254/32\", \"fd00:ec2::254/128\", \"203.0.113.0/27\"]"),
        (FAMILIES[1], "not_masqueraded = [\"192.168.50.0/25\", \"10.0.0.0/9\", \"fd00:192::/35\", \"::/0\"]"),
        (FAMILIES[0], "overlay = \"auto\"\nnot_masqueraded = [\"0.0.0.0/0\"]"),
        (FAMILIES[1], "overlay = \"never\""),
    ];
    for (underlay, settings) in cases {
        scene(2, |lab| {
            lab.write(&over(underlay, 2))?;
            for node in &mut lab.nodes {
                daemon::start_with_settings(node, settings, &[])?;
            }
            let (pod, _, _) = with_port(&lab.nodes[0], "pod", super::host_ports::HOST_PORT)?;
            serve(&pod)?;
            let far = lab.nodes[1].add_pod("far")?.host.clone();
            let _responder = podwire_tests::lab::exchange::Responder::start(&far)?;
            let host = &lab.nodes[0].host;
            // A foreign table beside ours.
            host.run("nft", &["add table inet foreign"])?;
            host.run("nft", &["add chain inet foreign input { type filter hook input priority 0; }"])?;
            host.run("nft", &["add rule inet foreign input tcp dport 22 counter accept"])?;
            let whole = state(host)?;
            host.run("sh", &["-c", "nft list ruleset > /run/saved"])?;

            // With the daemon away, so that what was loaded is what is there.
            lab.nodes[0].daemon = None;
            let host = &lab.nodes[0].host;
            host.run("nft", &["flush ruleset"])?;
            host.run("nft", &["-f", "/run/saved"])?;
            same("the ruleset that was loaded", &whole, &state(host)?)?;
            answers(&lab.outside, underlay_address(1, underlay))?;

            // A daemon that starts finds nothing to repair in it, nor one that runs.
            daemon::start_with_settings(&mut lab.nodes[0], settings, &[])?;
            let host = &lab.nodes[0].host;
            let status = daemon::json(host, &["status", "--json"])?;
            let made = status["daemon"]["changes"]["firewall"].as_u64().unwrap_or(0);
            check(made == 0, || format!("the firewall was not as desired: {made} changes"))?;
            host.run("sh", &["-c", "(echo flush ruleset; cat /run/saved) > /run/whole; nft -f /run/whole"])?;
            let before = repairs(lab)?;
            eventually(SOON, || {
                let passes = daemon::json(host, &["status", "--json"])?["daemon"]["passes"].as_u64();
                check(passes > status["daemon"]["passes"].as_u64(), || "no reconcile".into())
            })?;
            check(repairs(lab)? == before, || format!("{} repairs", repairs(lab).unwrap_or(0) - before))?;
            same("the ruleset that was loaded whole", &whole, &state(host)?)?;
            lab.nodes[0].add_pod("near")?;
            let near = lab.nodes[0].pod("near");
            FAMILIES.into_iter().try_for_each(|like| {
                eventually(SOON, || reaches(&near.host, near.address(like), lab.nodes[1].pod("far").address(like)))
            })
        });
    }
}
