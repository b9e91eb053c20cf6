//! Cases that real implementations got wrong: whose pods a policy means. Finished and terminating ones, those of the node's
//! network, pods that begin, and pods that reach themselves.

use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::policies::{policed, put};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::{Value, json};

use super::services::{Mode, ServicePort, translate};
use super::stage::{Answerers, add_pod, address, app, of, put_pod};

/// A policy's spec for pods with a label.
/// The peers of a rule: pods with a label.
fn peers(name: &str) -> Value {
    json!([{"podSelector": {"matchLabels": {"app": name}}}])
}

#[test]
fn case_1_a_finished_job_pod_whose_address_another_pod_has_now_touches_nobody() {
    policed(2, |lab| {
        add_pod(lab, 0, "web", &app("web"), &json!({}))?;
        add_pod(lab, 0, "database", &app("database"), &json!({}))?;
        add_pod(lab, 1, "far", &app("web"), &json!({}))?;
        add_pod(lab, 1, "runs", &app("job"), &json!({}))?;
        // They are younger than the pods that have their addresses now.
        let finished = json!({
            "metadata": {"creationTimestamp": "2026-11-30T12:00:00Z"}, "status": {"phase": "Succeeded"},
        });
        for (node, name) in [(0, "web"), (1, "far")] {
            let addresses = lab.nodes[node].pod(name).addresses.clone();
            put_pod(lab, node, &format!("job-of-{name}"), &addresses, &app("job"), &finished)?;
        }
        let mut answerers = Answerers::pods(lab)?;
        put(lab, "subject", &of("job", &json!({"policyTypes": ["Ingress", "Egress"]})))?;
        put(lab, "peer", &of("database", &json!({"ingress": [{"from": peers("job")}]})))?;
        let expected = [
            ("runs", "database", "TCP/80", false),
            ("web", "database", "TCP/80", false),
            ("far", "database", "TCP/80", false),
            ("web", "far", "TCP/80", true),
            ("far", "web", "TCP/80", true),
            ("web", "far", "UDP/80", true),
        ];
        answerers.soon(lab, &expected)?;
        // A pod of this name that runs is let in.
        put(lab, "subject", &of("job", &json!({"policyTypes": ["Ingress"]})))?;
        let mut expected = expected;
        expected[0].3 = true;
        answerers.soon(lab, &expected)
    });
}

#[test]
fn case_2_a_terminating_pod_opens_and_takes_allowed_connections_until_its_del() {
    policed(2, |lab| {
        let terminating = json!({"metadata": {"deletionTimestamp": "2026-11-30T12:00:00Z"}});
        add_pod(lab, 0, "web", &app("web"), &terminating)?;
        add_pod(lab, 1, "database", &app("database"), &terminating)?;
        add_pod(lab, 1, "other", &app("other"), &json!({}))?;
        let mut answerers = Answerers::pods(lab)?;
        let rules = json!({
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers("database")}], "egress": [{"to": peers("database")}],
        });
        put(lab, "web", &of("web", &rules))?;
        let expected = [
            ("other", "web", "TCP/80", false),
            ("web", "other", "TCP/80", false),
            ("database", "web", "TCP/80", true),
            ("web", "database", "TCP/80", true),
            ("web", "database", "UDP/80", true),
        ];
        answerers.soon(lab, &expected)?;
        answerers.now(lab, &expected)
    });
}

#[test]
fn case_7_a_pod_of_the_nodes_network_isolates_no_node_lets_no_node_in_and_answers_of_the_api_server_pass() {
    const API: u16 = 6443;
    policed(2, |lab| {
        add_pod(lab, 0, "web", &app("web"), &json!({}))?;
        add_pod(lab, 0, "controller", &app("controller"), &json!({}))?;
        let host_network = json!({"spec": {"hostNetwork": true}});
        for node in 0..2 {
            let number = lab.nodes[node].number;
            let addresses = FAMILIES.map(|like| underlay_address(number, like));
            put_pod(lab, node, &format!("host-{number}"), &addresses, &app("host"), &host_network)?;
        }
        let hosts = [lab.nodes[0].host.clone(), lab.nodes[1].host.clone(), lab.outside.clone()];
        let mut answerers = hosts.iter().try_fold(Answerers::pods(lab)?, |all, host| all.and(host, API))?;
        let everybody = json!({
            "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [{"podSelector": {}}]}],
        });
        put(lab, "everybody", &everybody)?;
        let blocks = ["192.168.50.2/32", "fd00:192:168:50::2/128"].map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
        let api = json!({"policyTypes": ["Egress"], "egress": [{"to": blocks, "ports": [{"port": API}]}]});
        put(lab, "controller", &of("controller", &api))?;
        let expected = [
            // No node is let in by the selector of pods, and the pod's own node always is.
            ("node-2", "web", "TCP/80", false),
            ("node-1", "web", "TCP/80", true),
            ("web", "node-2", "TCP/6443", false),
            ("web", "node-1", "TCP/6443", true),
            // No node is isolated.
            ("node-2", "node-1", "TCP/6443", true),
            ("node-1", "node-2", "TCP/6443", true),
            ("outside", "node-1", "TCP/6443", true),
            ("node-1", "outside", "TCP/6443", true),
            // The API server is a pod of its node's network.
            ("controller", "node-2", "TCP/6443", true),
            ("controller", "outside", "TCP/6443", false),
        ];
        answerers.soon(lab, &expected)?;
        answerers.now(lab, &expected)
    });
}

#[test]
fn case_8_a_pod_isolated_both_ways_reaches_itself_and_through_the_same_service_not_its_sibling() {
    for mode in [Mode::Nftables, Mode::Iptables] {
        policed(2, |lab| {
            for (node, name) in [(0, "web"), (0, "sibling"), (1, "far-sibling")] {
                add_pod(lab, node, name, &app("web"), &json!({}))?;
            }
            let mut answerers = Answerers::pods(lab)?;
            put(lab, "web", &of("web", &json!({"policyTypes": ["Ingress", "Egress"]})))?;
            let service = ["10.96.0.1", "fd00:96::1"].map(|address| address.parse().unwrap());
            let leads = |lab: &Lab, to: &str| -> Outcome {
                let mut ports = Vec::new();
                for (like, address_of_service) in FAMILIES.into_iter().zip(service) {
                    let endpoint = (address(lab, to, like)?, 8080).into();
                    let port = |protocol| ServicePort::new(protocol, (address_of_service, 80).into(), endpoint);
                    ports.extend(["TCP", "UDP"].map(port));
                }
                translate(&lab.nodes[0].host, mode, &ports)
            };
            for (endpoint, passes) in [("web", true), ("sibling", false), ("far-sibling", false)] {
                leads(lab, endpoint)?;
                answerers.service("service", service, endpoint);
                let expected = [
                    ("web", "sibling", "TCP/8080", false),
                    ("far-sibling", "web", "TCP/8080", false),
                    // Where the server itself listens: what stays in the pod is not translated.
                    ("web", "web", "TCP/7", true),
                    ("web", "service", "TCP/80", passes),
                    ("web", "service", "UDP/80", passes),
                ];
                answerers.soon(lab, &expected)?;
                answerers.now(lab, &expected)?;
            }
            Ok(())
        });
    }
}

#[test]
fn case_10_a_pod_that_two_policies_select_never_has_only_one_of_them_in_force() {
    policed(2, |lab| {
        add_pod(lab, 1, "server", &app("server"), &json!({}))?;
        let mut answerers = Answerers::pods(lab)?;
        for (name, port) in [("first", 80), ("second", 81)] {
            let rule = json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": port, "protocol": "UDP"}]}]});
            put(lab, name, &of("client", &rule))?;
        }
        // Pods come and go, and each connects from its first instruction on.
        for number in 0..10 {
            let name = format!("client-{number}");
            add_pod(lab, 0, &name, &app("client"), &json!({}))?;
            let either = [(&*name, "server", "UDP/80", true), (&*name, "server", "UDP/81", true)];
            let third = [(&*name, "server", "UDP/82", false)];
            eventually(SOON, || {
                answerers.now(lab, &either).unwrap_or_else(|why| panic!("only one is in force: {why}"));
                answerers.now(lab, &third)
            })?;
            lab.nodes[0].remove_pod(&name)?;
        }
        Ok(())
    });
}

#[test]
fn case_12_while_the_daemon_is_killed_and_starts_anew_no_packet_more_is_let_in_or_refused() {
    policed(2, |lab| {
        for (node, name) in [(0, "client"), (1, "far-client"), (0, "other"), (1, "far-other")] {
            add_pod(lab, node, name, &app(name.trim_start_matches("far-")), &json!({}))?;
        }
        // One for connections that begin, one for streams.
        for name in ["server", "streamed"] {
            add_pod(lab, 0, name, &app("server"), &json!({}))?;
        }
        let mut answerers = Answerers::of(lab, |name| name != "streamed")?;
        put(lab, "server", &of("server", &json!({"ingress": [{"from": peers("client")}]})))?;
        let expected = [
            ("client", "server", "TCP/80", true),
            ("far-client", "server", "UDP/80", true),
            ("other", "server", "TCP/80", false),
            ("far-other", "server", "UDP/80", false),
        ];
        answerers.soon(lab, &expected)?;
        let server = lab.nodes[0].pod("streamed");
        let mut streams = Vec::new();
        for (node, name) in [(0, "client"), (1, "far-client"), (0, "other"), (1, "far-other")] {
            for like in FAMILIES {
                let from = &lab.nodes[node].pod(name).host;
                streams.push((name, Stream::start(from, &server.host, server.address(like))?));
            }
        }
        for slowly in [false, true] {
            // What cannot be read makes the lists incomplete, as slow ones are.
            if slowly {
                podwire_tests::lab::policies::write(lab, "wrong.json", "{")?;
            }
            lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
            answerers.now(lab, &expected)?;
            lab.nodes[0].start()?;
            lab.nodes[0].wait_ready()?;
            answerers.now(lab, &expected)?;
            if slowly {
                podwire_tests::lab::policies::remove(lab, "wrong.json")?;
            }
            lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.wait_for("the policies are in force", SOON)?;
            answerers.now(lab, &expected)?;
        }
        for (name, stream) in streams {
            let count = stream.finish()?;
            let wanted = if name.ends_with("client") { 0 } else { usize::try_from(count.sent).unwrap() };
            let lost = count.lost.len();
            check(lost == wanted, || format!("{name}: {lost} of {} packets were lost, not {wanted}", count.sent))?;
        }
        Ok(())
    });
}
