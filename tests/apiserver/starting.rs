//! Pods that start while policies are in force: ADD returns once theirs are, or the pod is one whose policies are not known.

use std::time::{Duration, Instant};

use podwire_tests::lab::daemon::json as json_of;
use podwire_tests::lab::exchange::{Responder, is_dropped};
use podwire_tests::lab::node::Node;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, json as look, reaches};
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::json;

use crate::policies::{PODS, POLICIES, add_pod, policy, scheduled};
use crate::stage::{SETTINGS_WITH_POLICIES, policed, share, start};

/// What the plugin waits by default.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses that a map of the policies' table has, without waiting for anything.
fn isolated(node: &Node, direction: &str, family: char) -> Result<String, String> {
    let map = format!("{direction}-isolated{family}");
    Ok(look(&node.host, "nft", &["-j", "list", "map", "inet", "podwire-policy", &map])?["nftables"][1].to_string())
}

/// Whether a pod is isolated in a direction at this moment, in both families.
fn is_isolated(node: &Node, name: &str, direction: &str, expected: bool) -> Outcome {
    for (like, family) in FAMILIES.into_iter().zip(['4', '6']) {
        let (address, found) = (node.pod(name).address(like).to_string(), isolated(node, direction, family)?);
        check(found.contains(&format!("\"{address}\"")) == expected, || {
            format!("{address} of {name} is {}in {direction}: {found}", if expected { "not " } else { "" })
        })?;
    }
    Ok(())
}

/// Has the first node's daemon started anew with more settings, and waits until the conflist has been written by them.
fn with_settings(lab: &mut Lab, more: &str) -> Outcome {
    share(lab, "podwired.toml", &format!("{SETTINGS_WITH_POLICIES}{more}"))?;
    let node = &mut lab.nodes[0];
    node.daemon.take().ok_or("no daemon")?.kill()?;
    let before = node.configuration()?;
    start(node)?;
    eventually(SOON, || check(node.configuration()? != before, || "the conflist is as it was".into()))
}

#[test]
fn add_returns_when_the_policies_of_the_pod_are_in_force() {
    policed(1, |lab, api| {
        // On a machine that is overloaded the daemon may be late, which is not what this is about.
        with_settings(lab, "network_policy_timeout_milliseconds = 20000\n")?;
        let deny = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]});
        api.create(POLICIES, &policy("deny", &deny))?;
        let both = json!({"podSelector": {"matchLabels": {"app": "vault"}}, "policyTypes": ["Ingress", "Egress"]});
        api.create(POLICIES, &policy("both", &both))?;
        let node = &mut lab.nodes[0];
        // The daemon has read both.
        add_pod(api, node, "first", &json!({"app": "vault"}))?;
        eventually(SOON, || is_isolated(node, "first", "egress", true))?;
        add_pod(api, node, "client", &json!({"app": "client"}))?;
        is_isolated(node, "client", "ingress", false)?;
        for number in 0..20 {
            let name = format!("server-{number}");
            add_pod(api, node, &name, &json!({"app": "server"}))?;
            is_isolated(node, &name, "ingress", true)?;
            // As the plugin would have done, had nobody answered.
            is_isolated(node, &name, "egress", false)?;
        }
        // It waits for a daemon that is busy.
        api.create(PODS, &scheduled("busy", &node.host.name, &json!({"app": "server"})))?;
        let daemon = node.daemon.as_ref().ok_or("no daemon")?;
        daemon.pause()?;
        let configuration = node.configuration()?;
        let (_busy, netns) = node.host.pod("busy")?;
        let call = Call::new("ADD", "busy", &netns, &configuration);
        // Without a wait it takes a tenth of this.
        let answer = call.execute_for(&node.host, TIMEOUT / 2)?;
        daemon.go_on()?;
        check(answer.output.is_empty(), || format!("ADD has not waited for the daemon: {}", answer.output))?;
        let given =
            call.execute(&node.host)?.result()?["ips"][0]["address"].as_str().unwrap_or_default().replace("/32", "");
        let found = isolated(node, "ingress", '4')?;
        check(found.contains(&format!("\"{given}\"")), || format!("{given} is not isolated: {found}"))?;
        call.verb("DEL").execute(&node.host)?.result()?;
        // What a policy allows is in force at the same moment as what it refuses.
        let allow = json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}],
        });
        api.create(POLICIES, &policy("clients", &allow))?;
        let responder = Responder::start(&node.pod("server-0").host)?;
        eventually(SOON, || {
            FAMILIES.iter().try_for_each(|like| {
                let (client, server) = (node.pod("client"), node.pod("server-0"));
                reaches(&client.host, client.address(*like), server.address(*like))
            })
        })?;
        drop(responder);
        for number in 20..30 {
            let name = format!("server-{number}");
            add_pod(api, node, &name, &json!({"app": "server"}))?;
            let _responder = Responder::start(&node.pod(&name).host)?;
            for like in FAMILIES {
                let (client, first, server) = (node.pod("client"), node.pod("first"), node.pod(&name));
                reaches(&client.host, client.address(like), server.address(like))?;
                is_dropped(&first.host, server.address(like))?;
            }
        }
        // Isolation ends with the attachment.
        let address = node.pod("server-0").address(FAMILIES[0]).to_string();
        node.remove_pod("server-0")?;
        eventually(SOON, || {
            let found = isolated(node, "ingress", '4')?;
            check(!found.contains(&format!("\"{address}\"")), || format!("{address} stays isolated: {found}"))
        })
    });
}

/// The problems of a kind, with their subjects.
fn problems(node: &Node, kind: &str) -> Result<Vec<String>, String> {
    let status = json_of(&node.host, &["status", "--json"])?;
    let all = status["problems"].as_array().into_iter().flatten().filter(|problem| problem["kind"] == kind);
    Ok(all.map(|problem| problem["subject"].as_str().unwrap_or_default().to_owned()).collect())
}

/// That a pod and another one do not reach each other, while its node reaches it.
fn is_shut_off(node: &Node, name: &str, other: &str) -> Outcome {
    let (pod, other) = (node.pod(name), node.pod(other));
    for like in FAMILIES {
        is_dropped(&other.host, pod.address(like))?;
        is_dropped(&pod.host, other.address(like))?;
        node.host.run("ping", &["-c", "1", "-W", "5", &pod.address(like).to_string()])?;
    }
    Ok(())
}

fn is_open(node: &Node, name: &str, other: &str) -> Outcome {
    let (pod, other) = (node.pod(name), node.pod(other));
    FAMILIES.iter().try_for_each(|like| {
        reaches(&other.host, other.address(*like), pod.address(*like))?;
        reaches(&pod.host, pod.address(*like), other.address(*like))
    })
}

#[test]
fn a_pod_that_is_not_known_reaches_its_node_alone_until_it_is() {
    policed(1, |lab, api| {
        let node = &mut lab.nodes[0];
        add_pod(api, node, "other", &json!({}))?;
        let _responder = Responder::start(&node.pod("other").host)?;
        // Nobody has made its object yet.
        let start_of = Instant::now();
        node.add_pod("late")?;
        check(start_of.elapsed() >= TIMEOUT, || format!("ADD has waited for {:?} only", start_of.elapsed()))?;
        let late = Responder::start(&node.pod("late").host)?;
        is_isolated(node, "late", "ingress", true)?;
        is_shut_off(node, "late", "other")?;
        eventually(SOON, || {
            let found = problems(node, "pod-unknown")?;
            check(found == ["default/late"], || format!("pods that are not known: {found:?}"))
        })?;
        is_shut_off(node, "late", "other")?;
        let name = node.host.name.clone();
        api.create(PODS, &scheduled("late", &name, &json!({})))?;
        eventually(SOON, || is_open(node, "late", "other"))?;
        check(problems(node, "pod-unknown")?.is_empty(), || "it is known by now".into())?;
        drop(late);
        // A pod of the same name that the API does not have yet, but its predecessor.
        let configuration = node.configuration()?;
        let (_host, netns) = node.host.pod("again")?;
        let arguments = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=late;K8S_POD_UID=0d3c6ac1-0000-4000-8000-000000000000";
        let call = Call::new("ADD", "again", &netns, &configuration).with("CNI_ARGS", arguments);
        let answer = call.execute(&node.host)?;
        check(answer.log.contains("until podwired has its policies in force"), || answer.log.clone())?;
        let given = answer.result()?["ips"][0]["address"].as_str().unwrap_or_default().replace("/32", "");
        let found = isolated(node, "egress", '4')?;
        check(found.contains(&format!("\"{given}\"")), || format!("{given} is not isolated: {found}"))?;
        call.verb("DEL").execute(&node.host)?.result()?;
        // Without the daemon, at once; the next daemon knows the pod.
        node.daemon.take().ok_or("no daemon")?.kill()?;
        api.create(PODS, &scheduled("alone", &name, &json!({})))?;
        let start_of = Instant::now();
        node.add_pod("alone")?;
        check(start_of.elapsed() < TIMEOUT, || format!("ADD has waited for {:?} for nobody", start_of.elapsed()))?;
        let _alone = Responder::start(&node.pod("alone").host)?;
        is_shut_off(node, "alone", "other")?;
        start(node)?;
        eventually(SOON, || is_open(node, "alone", "other"))
    });
}

#[test]
fn a_pod_that_is_not_known_has_its_network_where_the_settings_allow_it() {
    policed(1, |lab, api| {
        with_settings(lab, "network_policy_unknown = \"allow\"\nnetwork_policy_timeout_milliseconds = 300\n")?;
        let node = &mut lab.nodes[0];
        let policy = node.configuration()?["networkPolicy"].clone();
        check(policy == json!({"unknown": "allow", "timeoutMilliseconds": 300}), || policy.to_string())?;
        add_pod(api, node, "other", &json!({}))?;
        let _responder = Responder::start(&node.pod("other").host)?;
        let start_of = Instant::now();
        node.add_pod("late")?;
        let took = start_of.elapsed();
        check(took >= Duration::from_millis(300) && took < TIMEOUT, || format!("ADD has taken {took:?}"))?;
        let _late = Responder::start(&node.pod("late").host)?;
        is_open(node, "late", "other")?;
        eventually(SOON, || {
            let found = problems(node, "pod-unknown")?;
            check(found == ["default/late"], || format!("pods that are not known: {found:?}"))
        })?;
        is_open(node, "late", "other")
    });
}
