//! The firewall as a whole: what a joining peer changes in it, and that whatever anybody breaks comes back.

use podwire_tests::lab::exchange::{Responder, exchange};
use std::net::Ipv4Addr;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, json, reaches, same, scene, state};
use podwire_tests::lab::{SOON, eventually};
use serde_json::Value;

/// A node's elements of a set, without what else `nft` says of it.
fn elements(host: &Host, set: &str) -> Outcome<Vec<String>> {
    let list = json(host, "nft", &["-j", "list", "set", "inet", "podwire", set])?;
    let entries = list["nftables"].as_array().into_iter().flatten();
    let elements = entries.filter_map(|entry| entry["set"]["elem"].as_array()).flatten();
    let mut elements: Vec<_> = elements.map(ToString::to_string).collect();
    elements.sort();
    Ok(elements)
}

#[test]
fn a_joining_peer_adds_set_elements_and_no_rule() {
    cluster(2, |lab| {
        let host = &lab.nodes[0].host;
        // With the numbers that the kernel has given to rules and chains.
        let rules = || -> Outcome<Value> {
            let mut rules = json(host, "nft", &["-a", "-j", "list", "table", "inet", "podwire"])?;
            let list = rules["nftables"].as_array_mut().ok_or("no list")?;
            list.retain(|entry| entry.get("set").is_none() && entry.get("metainfo").is_none());
            Ok(rules)
        };
        let before = rules()?;
        let two = elements(host, "overlay-peers4")?;
        check(two == ["\"192.168.50.2\""], || format!("{two:?}"))?;
        lab.write(&Membership::of(1..=4))?;
        let four = ["\"192.168.50.2\"", "\"192.168.50.3\"", "\"192.168.50.4\""];
        let is = |wanted: &[&str]| {
            eventually(SOON, || {
                let found = elements(host, "overlay-peers4")?;
                check(found == wanted, || format!("{found:?}"))
            })
        };
        is(&four)?;
        check(elements(host, "overlay-sources4-4-24")?.len() == 3, || "not a prefix for each".into())?;
        check(elements(host, "overlay-sources4-6-64")?.len() == 3, || "not a prefix for each".into())?;
        // A node that changes its address and its prefix.
        let mut moved = Membership::of(1..=3);
        moved.nodes[2].1 = "192.168.50.33".parse().unwrap();
        moved.nodes[2].2[0] = "10.244.33.0/24".parse().unwrap();
        lab.write(&moved)?;
        is(&["\"192.168.50.2\"", "\"192.168.50.33\""])?;
        let sources = elements(host, "overlay-sources4-4-24")?;
        // Where it is out of a carried packet, `nft` writes an address as a number.
        let moved_to = u32::from(Ipv4Addr::new(10, 244, 33, 0)).to_string();
        check(sources.len() == 2 && sources.iter().any(|source| source.contains(&moved_to)), || {
            format!("{sources:?}")
        })?;
        same("the rules", &before, &rules()?)?;
        // Another width is another set, and goes with the last prefix that has it.
        moved.nodes[2].2[0] = "10.244.32.0/22".parse().unwrap();
        lab.write(&moved)?;
        eventually(SOON, || elements(host, "overlay-sources4-4-22").map(drop))?;
        lab.write(&Membership::of(1..=2))?;
        is(&["\"192.168.50.2\""])?;
        let gone = elements(host, "overlay-sources4-4-22");
        check(gone.is_err(), || format!("{gone:?}"))?;
        eventually(SOON, || {
            let after = rules()?;
            check(after["nftables"].as_array().map(Vec::len) == before["nftables"].as_array().map(Vec::len), || {
                after.to_string()
            })
        })
    });
}

#[test]
fn pods_reach_each_other_with_pod_cidrs_of_every_prefix_length() {
    scene(3, |lab| {
        let mut membership = Membership::of(1..=3);
        let net = |text: &str| text.parse().unwrap();
        membership.nodes[0].2 = vec![net("10.244.1.0/24"), net("10.244.128.0/18"), net("fd00:10:244:1::/64")];
        membership.nodes[1].2 = vec![net("fd00:10:244:200::/56"), net("10.244.16.0/20")];
        membership.nodes[2].2 = vec![net("10.244.3.64/26"), net("fd00:10:244:3::1:0/112")];
        lab.write(&membership)?;
        lab.start()?;
        let mut responders = Vec::new();
        for node in &mut lab.nodes {
            responders.push(Responder::start(&node.add_pod("pod")?.host)?);
        }
        for from in &lab.nodes {
            for to in lab.nodes.iter().filter(|to| to.number != from.number) {
                for address in &to.pod("pod").addresses {
                    let own = from.pod("pod").address(*address);
                    reaches(&from.pod("pod").host, own, *address)?;
                    exchange(&from.host, *address)?;
                }
            }
        }
        Ok(())
    });
}

/// The same, with rules sorted by the names of their chains, and sets by theirs: one that was made anew is the last one of its table.
pub(crate) fn by_chain(state: &Value) -> Value {
    let mut state = state.clone();
    let name = |entry: &Value| {
        [("chain", "name"), ("set", "name"), ("rule", "chain")].map(|(kind, name)| entry[kind][name].to_string())
    };
    if let Some(entries) = state["nftables"]["nftables"].as_array_mut() {
        entries.sort_by_key(name);
    }
    state
}

/// What breaks the firewall: scripts of `nft`.
const BREAKS: [&str; 24] = [
    "flush ruleset",
    "delete table inet podwire",
    "flush table inet podwire",
    "flush set inet podwire overlay-peers4",
    "flush set inet podwire overlay-sources4-4-24",
    "delete element inet podwire overlay-peers4 { 192.168.50.2 }",
    "delete element inet podwire overlay-sources4-6-64 { 192.168.50.2 . 0xfd000010024400020000000000000000 }",
    "add element inet podwire overlay-peers4 { 192.168.50.254 }",
    "add element inet podwire overlay-sources4-4-32 { 192.168.50.2 . 0xaf40101 }",
    "flush chain inet podwire guard-overlay",
    "flush chain inet podwire guard-overlay; flush chain inet podwire guard-input; \
     flush chain inet podwire guard-relayed; delete set inet podwire dropped-strangers4; \
     add set inet podwire dropped-strangers4 { type ipv4_addr; }",
    "flush chain inet podwire guard-prerouting",
    "flush chain inet podwire guard-output; delete chain inet podwire guard-output",
    "flush chain inet podwire guard-input; delete chain inet podwire guard-input",
    "flush chain inet podwire guard-input; delete chain inet podwire guard-input; \
     add chain inet podwire guard-input { type filter hook input priority 5; }",
    "flush chain inet podwire guard-forward",
    "flush chain inet podwire guard-relayed",
    "flush chain inet podwire guard-local; delete chain inet podwire guard-local",
    "insert rule inet podwire guard-overlay accept",
    "insert rule inet podwire guard-spoofed accept",
    "add chain inet podwire guard-forward { policy drop; }",
    "add set inet podwire overlay-sources4-4-22 { type ipv4_addr . ipv4_addr; }; \
     add element inet podwire overlay-sources4-4-22 { 192.168.50.2 . 10.244.0.0 }",
    "flush chain inet podwire guard-spoofed; flush chain inet podwire guard-from-pod; \
     flush chain inet podwire guard-on-link; delete counter inet podwire pod-spoofing",
    "add table inet podwire { flags dormant; }",
];

#[test]
fn a_damaged_firewall_is_restored_and_foreign_rules_stay() {
    cluster(2, |lab| {
        let far = lab.nodes[1].add_pod("far")?;
        let _responder = Responder::start(&far.host)?;
        lab.nodes[0].add_pod("near")?;
        let host = lab.nodes[0].host.clone();
        let foreign = "add table ip foreign; add chain ip foreign c { type filter hook input priority 7; }; \
                         add rule ip foreign c counter accept; add set inet podwire theirs { type ipv4_addr; }; \
                         add element inet podwire theirs { 10.9.9.9 }; add chain inet podwire their-chain";
        for broken in BREAKS {
            host.run("nft", &[foreign])?;
            let whole = by_chain(&state(&host)?);
            host.run("nft", &[broken])?;
            if ["flush ruleset", "delete table inet podwire"].contains(&broken) {
                // Foreign objects in the table have gone with it, and with all tables all that is foreign.
                eventually(SOON, || host.run("nft", &["list", "chain", "inet", "podwire", "guard-overlay"]))?;
                // One of theirs may be there still, with a rule that would be there twice.
                let _ = host.run("nft", &["delete table ip foreign"]);
                host.run("nft", &[foreign])?;
            }
            eventually(SOON, || same("the node", &whole, &by_chain(&state(&host)?)))
                .map_err(|why| format!("after {broken}: {why}"))?;
            let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
            for like in FAMILIES {
                reaches(&near.host, near.address(like), far.address(like))
                    .map_err(|why| format!("after {broken}: {why}"))?;
            }
            host.run("nft", &["delete table ip foreign"])?;
        }
        Ok(())
    });
}
