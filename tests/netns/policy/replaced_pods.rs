//! Connections that a pod of another node leaves behind when it goes: whoever gets its address does not go on with them, unless it may begin them
//! itself.

use podwire_tests::lab::policies::{policed, put, remove};
use podwire_tests::lab::scene::FAMILIES;
use serde_json::json;

use super::cases_of_connections::Monologue;
use super::stage::{add_pod, app, of, put_pod};

const PORT: u16 = 7_700;

#[test]
fn a_pod_with_the_address_of_one_that_has_gone_does_not_go_on_with_connections_that_it_may_not_begin() {
    policed(2, |lab| {
        add_pod(lab, 0, "server", &app("server"), &json!({}))?;
        add_pod(lab, 1, "client", &app("client"), &json!({}))?;
        add_pod(lab, 1, "stranger", &app("stranger"), &json!({}))?;
        let mut streams = Vec::new();
        let (server, client) = (lab.nodes[0].pod("server"), lab.nodes[1].pod("client"));
        for (number, like) in (0..).zip(FAMILIES) {
            // TCP takes the fast path, too.
            for (place, protocol) in (0..).zip(["TCP", "UDP"]) {
                let to = (server.address(like), PORT + 2 * number + place).into();
                streams.push(Monologue::start(protocol, &client.host, &server.host, to)?);
            }
        }
        let stranger = &lab.nodes[1].pod("stranger").host;
        let refused = Monologue::start("UDP", stranger, &server.host, (server.address(FAMILIES[0]), PORT + 9).into())?;
        put(
            lab,
            "clients",
            &of("server", &json!({"ingress": [{"from": [{"podSelector": {"matchLabels": app("client")}}]}]})),
        )?;
        // Then the policy is in force.
        refused.is_cut()?;
        streams.iter().try_for_each(Monologue::flows)?;
        let addresses = FAMILIES.map(|like| client.address(like));
        remove(lab, "pod-client.json")?;
        streams.iter().try_for_each(Monologue::is_cut)?;
        put_pod(lab, 1, "next", &addresses, &app("other"), &json!({}))?;
        streams.iter().try_for_each(Monologue::is_cut)?;
        // One that may begin them goes on: nothing tells it from the one that has gone.
        put_pod(lab, 1, "next", &addresses, &app("client"), &json!({}))?;
        streams.iter().try_for_each(Monologue::flows)
    });
}
