//! Policies that are too much for a node: what was in force stays, and once they are not any more everything is as it should be, for connections
//! that have begun meanwhile, too.

use podwire_tests::lab::policies::{in_force, pods_of, policed, problems, put, put_tier, take};
use podwire_tests::lab::scene::{FAMILIES, check};
use podwire_tests::lab::{SOON, eventually};
use serde_json::{Value, json};

use super::cases_of_connections::Monologue;
use super::stage::{add_pod, app, of, put_pod};

const PORT: u16 = 7_800;

/// Port ranges of a rule, of which a node has 1,024 at most.
fn ranges(first: u16) -> Value {
    (0..600).map(|number| json!({"port": first + 10 * number, "endPort": first + 10 * number + 5})).collect()
}

#[test]
fn what_changes_while_policies_are_too_many_is_in_force_for_existing_connections_once_they_are_not() {
    policed(2, |lab| {
        for (node, name) in [(0, "server"), (0, "other"), (1, "client"), (1, "quarantine")] {
            add_pod(lab, node, name, &app(name), &json!({}))?;
        }
        let (server, client) = (lab.nodes[0].pod("server"), lab.nodes[1].pod("client"));
        let stream = |protocol: &str, name: &str, number: u16| {
            let to = (server.address(FAMILIES[usize::from(number % 2)]), PORT + number).into();
            Monologue::start(protocol, &lab.nodes[1].pod(name).host, &server.host, to)
        };
        let streams = [stream("TCP", "client", 0)?, stream("UDP", "client", 1)?];
        let refused = stream("UDP", "quarantine", 2)?;
        let deny = json!({"ingress": [{"action": "Deny", "from": [{"pods": pods_of("quarantine")}]}]});
        put_tier(lab, "quarantine", ("Admin", 1), &pods_of("server"), &deny)?;
        refused.is_cut()?;
        put(lab, "ranges", &of("other", &json!({"ingress": [{"ports": ranges(1_000)}, {"ports": ranges(1_001)}]})))?;
        eventually(SOON, || {
            let found = problems(&lab.nodes[0], "policies-not-in-force")?;
            check(!found.is_empty(), || "so many port ranges are no problem".into())
        })?;
        streams.iter().try_for_each(Monologue::flows)?;
        let addresses = FAMILIES.map(|like| client.address(like));
        put_pod(lab, 1, "client", &addresses, &app("quarantine"), &json!({}))?;
        take(lab, "ranges")?;
        in_force(&lab.nodes[0])?;
        streams.iter().try_for_each(Monologue::is_cut)?;
        refused.is_cut()
    });
}
