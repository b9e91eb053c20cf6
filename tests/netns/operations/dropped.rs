//! What the overlay's guard drops is a finding with the sender's address. What is dropped, `overlay::guards` plays.

use std::net::IpAddr;

use podwire_tests::lab::daemon::json;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};
use podwire_tests::lab::{Lab, SOON, daemon, eventually, outside_address};
use serde_json::Value;

use crate::overlay::forged::{CARRIED_PORT, Forged, send};
use crate::overlay::guards::{mac, over, refused};

/// Addresses of the second node that the membership does not list.
const OTHERS: [&str; 2] = ["10.9.9.2", "fd00:9::2"];
/// The VXLAN port.
const PORT: u16 = 8472;

/// The kind, the subject and the cause of each finding on the first node.
fn findings(lab: &Lab) -> Outcome<Vec<[String; 3]>> {
    let found = json(&lab.nodes[0].host, &["doctor", "--json"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |finding: &Value| ["kind", "subject", "cause"].map(|key| text(&finding[key]));
    Ok(found.as_array().ok_or_else(|| found.to_string())?.iter().map(one).collect())
}

/// That the findings are of these kinds, about these.
fn are(lab: &Lab, wanted: &[(&str, String)]) -> Outcome<Vec<[String; 3]>> {
    let found = findings(lab)?;
    let mut about: Vec<_> = found.iter().map(|[kind, subject, _]| (kind.as_str(), subject.clone())).collect();
    let mut wanted = wanted.to_vec();
    about.sort();
    wanted.sort();
    check(about == wanted, || format!("{found:#?} is not {wanted:?}"))?;
    Ok(found)
}

/// Sends, as the second node's programs do from its other addresses, and as a host does that is no node.
fn all_send(lab: &Lab, underlay: IpAddr, pods: &[IpAddr]) -> Outcome {
    let node = &lab.nodes[0].host;
    let device = mac(node, "podwire.1")?;
    for (pod, other) in pods.iter().zip(OTHERS) {
        let before = refused(node, "overlay-sources")?;
        eventually(SOON, || {
            send(&lab.nodes[1].host, Some(other.parse().unwrap()), (*pod, CARRIED_PORT).into(), b"x")?;
            check(refused(node, "overlay-sources")? > before, || format!("what {other} sends is not dropped"))
        })?;
        let source = underlay_address(2, *pod);
        let lie = Forged { vni: 1, device, ethertype: None, source, destination: *pod, text: "lie".into() };
        lie.send(&lab.outside, underlay_address(1, underlay), PORT)?;
    }
    Ok(())
}

/// The elements of a set that rules fill, as `nft` lists it.
fn listed(host: &Host, set: &str) -> Outcome<String> {
    host.run("nft", &["list", "set", "inet", "podwire", set])
}

#[test]
fn what_the_overlays_guard_drops_is_a_finding_with_the_senders_address() {
    for (underlay, settings) in [(FAMILIES[0], ""), (FAMILIES[1], "masquerade = false\nfast_path = false")] {
        scene(2, |lab| {
            let mut nodes = over(underlay, 2);
            lab.write(&nodes)?;
            for node in &mut lab.nodes {
                daemon::start_with_settings(node, settings, &[])?;
            }
            lab.nodes[0].add_pod("pod")?;
            let pods = lab.nodes[0].pod("pod").addresses.clone();
            OTHERS
                .iter()
                .try_for_each(|other| lab.nodes[1].host.run("ip", &["address", "add", other, "dev", "lo"]).map(drop))?;
            eventually(SOON, || are(lab, &[]))?;
            let stranger = outside_address(underlay).to_string();
            let [four, six] = OTHERS.map(|other| ("source-unlisted", other.to_owned()));
            let wanted = [four, six, ("sender-unknown", stranger.clone())];
            // A sender counts once the membership has rested for ten seconds.
            let sent = || all_send(lab, underlay, &pods).and_then(|()| are(lab, &wanted));
            let found = eventually(SOON, sent)?;
            let member = format!("node-2 ({})", underlay_address(2, underlay));
            let named = found.iter().all(|[kind, _, cause]| match kind.as_str() {
                "source-unlisted" => cause.contains(&member),
                _ => cause.contains("no member"),
            });
            check(named, || format!("{found:#?}"))?;

            // A ruleset is saved with them and loaded again; then there is nothing to repair.
            let host = &lab.nodes[0].host;
            let daemon = || -> Outcome<Value> { Ok(json(host, &["status", "--json"])?["daemon"].clone()) };
            let before = daemon()?;
            host.run("sh", &["-c", "(echo flush ruleset; nft list ruleset) > /run/whole; nft -f /run/whole"])?;
            are(lab, &wanted)?;
            eventually(SOON, || {
                check(daemon()?["passes"].as_u64() > before["passes"].as_u64(), || "no reconcile".into())
            })?;
            let repairs = daemon()?["repairs"]["firewall"].clone();
            check(repairs == before["repairs"]["firewall"], || format!("it was repaired: {repairs}"))?;
            are(lab, &wanted)?;

            // Emptied, it is filled by whoever still sends; gone, or another, it comes back.
            let set = format!("dropped-strangers{}", if underlay.is_ipv4() { 4 } else { 6 });
            host.run("nft", &["flush", "set", "inet", "podwire", &set])?;
            are(lab, &wanted[..2])?;
            eventually(SOON, sent)?;
            host.run("nft", &["flush", "ruleset"])?;
            eventually(SOON, || {
                let list = listed(host, &set)?;
                check(list.contains("size 64") && list.contains("timeout 10m"), || list)
            })?;
            eventually(SOON, sent)?;

            // A flood of forged senders fills the set, and is dropped all the same.
            let flood = |number: u32| {
                let forged =
                    if underlay.is_ipv4() { format!("198.18.0.{number}") } else { format!("fd00:bad::{number}") };
                format!("{{ {forged} }}")
            };
            let filled = (1..=200).take_while(|number| {
                host.run("nft", &["add", "element", "inet", "podwire", &set, &flood(*number)]).is_ok()
            });
            check(filled.count() < 64, || "the set holds more than 64".into())?;
            let counted = refused(host, "overlay-strangers")?;
            lab.nodes[1].host.run("ip", &["address", "add", "192.168.50.99/24", "dev", "eth0"])?;
            lab.nodes[1].host.run("ip", &["address", "add", "fd00:192:168:50::99/64", "dev", "eth0", "nodad"])?;
            let own = if underlay.is_ipv4() { "192.168.50.99" } else { "fd00:192:168:50::99" };
            eventually(SOON, || {
                send(&lab.nodes[1].host, own.parse().ok(), (underlay_address(1, underlay), PORT).into(), b"flood")?;
                check(refused(host, "overlay-strangers")? > counted, || "not dropped".into())
            })?;
            check(!listed(host, &set)?.contains(own), || "the set is larger than it may be".into())?;
            host.run("nft", &["flush", "set", "inet", "podwire", &set])?;

            // The membership lists them, and they are no finding any more.
            nodes.addresses(2, &OTHERS.map(|other| other.parse().unwrap()));
            lab.write(&nodes)?;
            eventually(SOON, || are(lab, &[]).map(drop))
        });
    }
}
