//! The policy directory: what its files say is in force, changes are, and mistakes in them change nothing.

use podwire_tests::lab::daemon::{self, podwired};
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::SHARED;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::policies::{
    add_pod, announce, directory, in_force, now, policed, problems, put, remove, soon, take, write,
};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, same, scene, state};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::{Value, json};

/// Nobody reaches any pod of the namespace.
fn nobody() -> Value {
    json!({"podSelector": {}, "policyTypes": ["Ingress"]})
}

/// Clients reach servers.
fn clients() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}],
    })
}

/// A server and a client on the first node, two other pods on the second one.
fn add_pods(lab: &mut Lab) -> Outcome<Responder> {
    add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
    add_pod(&mut lab.nodes[0], "near", &[("app", "client")])?;
    if let Some(second) = lab.nodes.get_mut(1) {
        add_pod(second, "far", &[("app", "client")])?;
        add_pod(second, "other", &[("app", "other")])?;
    }
    Responder::start(&lab.nodes[0].pod("server").host)
}

#[test]
fn policies_of_a_directory_are_in_force_between_pods_of_one_node_and_of_two() {
    policed(2, |lab| {
        let _server = add_pods(lab)?;
        let to_server = |near, far, other| {
            let server = (0, "server");
            [((0, "near"), server, near), ((1, "far"), server, far), ((1, "other"), server, other)]
        };
        soon(lab, &to_server(true, true, true))?;
        put(lab, "nobody", &nobody())?;
        soon(lab, &to_server(false, false, false))?;
        // Pods of another node are known by their objects alone.
        put(lab, "clients", &clients())?;
        soon(lab, &to_server(true, false, false))?;
        announce(lab, (1, "far"), &json!({"app": "client"}))?;
        announce(lab, (1, "other"), &json!({"app": "other"}))?;
        soon(lab, &to_server(true, true, false))?;
        // A change of a file, and one that is removed.
        announce(lab, (1, "other"), &json!({"app": "client"}))?;
        soon(lab, &to_server(true, true, true))?;
        remove(lab, "pod-far.json")?;
        soon(lab, &to_server(true, false, true))?;
        take(lab, "clients")?;
        soon(lab, &to_server(false, false, false))?;
        take(lab, "nobody")?;
        soon(lab, &to_server(true, true, true))?;
        lab.nodes.iter().try_for_each(in_force)
    });
}

#[test]
fn a_connection_that_a_changed_file_refuses_is_cut_and_goes_on_when_it_is_allowed_again() {
    policed(2, |lab| {
        let _server = add_pods(lab)?;
        let server = lab.nodes[0].pod("server");
        let start = |client: &podwire_tests::lab::node::Pod, like| {
            Stream::start(&client.host, &server.host, server.address(like))
        };
        let mut streams = Vec::new();
        for like in FAMILIES {
            streams.push(start(lab.nodes[0].pod("near"), like)?);
            streams.push(start(lab.nodes[1].pod("far"), like)?);
        }
        put(lab, "clients", &clients())?;
        announce(lab, (1, "far"), &json!({"app": "client"}))?;
        streams.iter().try_for_each(Stream::flows)?;
        let mut none = clients();
        none["ingress"] = json!([]);
        put(lab, "clients", &none)?;
        streams.iter().try_for_each(Stream::is_cut)?;
        put(lab, "clients", &clients())?;
        streams.iter().try_for_each(Stream::flows)
    });
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_what_was_in_force_stays() {
    policed(1, |lab| {
        let _server = add_pods(lab)?;
        add_pod(&mut lab.nodes[0], "other", &[("app", "other")])?;
        let good = |lab: &Lab| soon(lab, &[((0, "near"), (0, "server"), true), ((0, "other"), (0, "server"), false)]);
        put(lab, "clients", &clients())?;
        good(lab)?;
        in_force(&lab.nodes[0])?;
        // With each of the wrong files another one comes that would let everybody in.
        let mut everybody = clients();
        everybody["ingress"] = json!([{}]);
        let misspelt =
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelektor: {}}}";
        let again = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: clients}, spec: {}}";
        let (path, fifo) = (format!("{}/wrong.yaml", directory()), format!("{}/wrong.yml", directory()));
        for (text, said) in [(misspelt, "podSelektor"), (again, "clients.json as well"), ("kind: [", "wrong.yaml: ")] {
            write(lab, "wrong.yaml", text)?;
            is_named(&lab.nodes[0], &path, said)?;
            put(lab, "clients", &everybody)?;
            // The next round is over when the next mistake is named.
            write(lab, "wrong.yaml", "kind: Unknown")?;
            is_named(&lab.nodes[0], &path, "Unknown")?;
            good(lab)?;
            put(lab, "clients", &clients())?;
            remove(lab, "wrong.yaml")?;
            in_force(&lab.nodes[0])?;
        }
        lab.outside.run("mkfifo", &[&fifo])?;
        is_named(&lab.nodes[0], &fifo, "it is not a regular file")?;
        // A daemon that starts with it leaves in force what is, and has a network all the same.
        put(lab, "clients", &everybody)?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        is_named(&lab.nodes[0], &fifo, "it is not a regular file")?;
        good(lab)?;
        put(lab, "clients", &clients())?;
        remove(lab, "wrong.yml")?;
        in_force(&lab.nodes[0])?;
        // The directory itself.
        let (place, elsewhere) = (directory(), format!("{SHARED}/elsewhere"));
        lab.outside.run("mv", &[&place, &elsewhere])?;
        is_named(&lab.nodes[0], &place, "No such file or directory")?;
        good(lab)?;
        lab.outside.run("mv", &[&elsewhere, &place])?;
        in_force(&lab.nodes[0])?;
        good(lab)
    });
}

/// Waits until a problem is about this file and has these words.
fn is_named(node: &Node, file: &str, said: &str) -> Outcome {
    eventually(SOON, || {
        let problems = problems(node, "policies-not-in-force")?;
        let is = |(subject, text): &(String, String)| subject == file && text.contains(said);
        check(problems.iter().any(is), || format!("{problems:?} has nothing of {file} and {said}"))
    })
}

#[test]
fn a_restart_of_the_daemon_lets_no_packet_more_in_and_refuses_none_more() {
    policed(1, |lab| {
        let _server = add_pods(lab)?;
        add_pod(&mut lab.nodes[0], "other", &[])?;
        put(lab, "clients", &clients())?;
        let pairs = [((0, "near"), (0, "server"), true), ((0, "other"), (0, "server"), false)];
        soon(lab, &pairs)?;
        in_force(&lab.nodes[0])?;
        let before = state(&lab.nodes[0].host)?;
        let server = lab.nodes[0].pod("server");
        let (mut allowed, mut refused) = (Vec::new(), Vec::new());
        for (name, streams) in [("near", &mut allowed), ("other", &mut refused)] {
            let from = &lab.nodes[0].pod(name).host;
            for like in FAMILIES {
                streams.push(Stream::start(from, &server.host, server.address(like))?);
            }
        }
        allowed.iter().try_for_each(Stream::flows)?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        now(lab, &pairs)?;
        lab.nodes[0].start()?;
        daemon::of(&lab.nodes[0])?.wait_for("the policies are in force", SOON)?;
        now(lab, &pairs)?;
        for count in allowed.into_iter().map(Stream::finish) {
            let count = count?;
            check(count.lost.is_empty(), || format!("{} of {} were lost", count.lost.len(), count.sent))?;
        }
        for count in refused.into_iter().map(Stream::finish) {
            let count = count?;
            let lost = count.lost.len();
            check(lost as u64 == count.sent, || format!("{lost} of {} were refused, not all", count.sent))?;
        }
        same("the node", &before, &state(&lab.nodes[0].host)?)
    });
}

#[test]
fn policies_without_a_directory_are_refused_at_start_and_so_is_one_that_is_not_there() {
    scene(1, |lab| {
        let node = &lab.nodes[0];
        let nodes = format!("{SHARED}/nodes.toml");
        let run = |arguments: &[&str]| {
            let usual = ["run", "--node-name", &node.host.name, "--nodes", &nodes];
            let answer = podwired(&node.host, &[&usual, arguments].concat())?;
            check(answer.code == Some(1), || format!("{answer:?}"))?;
            Ok::<_, String>(answer.complaint)
        };
        let settings = node.host.enter(|| std::fs::write("/run/settings.toml", "network_policy = true\n"));
        settings.map_err(|error| error.to_string())?;
        let said = run(&["--settings", "/run/settings.toml"])?;
        check(said.contains("name a directory of policies with --policies"), || said)?;
        let said = run(&["--policies", "/run/nowhere"])?;
        check(said.contains("read the policy directory /run/nowhere: No such file or directory"), || said.clone())?;
        check(said.contains("create it, or correct --policies"), || said)
    });
}

#[test]
fn a_daemon_without_a_policy_directory_removes_what_an_earlier_one_has_put_in_force() {
    cluster(1, |lab| {
        let _server = add_pods(lab)?;
        lab.outside.run("mkdir", &[&directory()])?;
        put(lab, "nobody", &nobody())?;
        let pairs = |passes| [((0, "near"), (0, "server"), passes)];
        for (arguments, passes) in
            [(Vec::new(), true), (vec!["--policies".into(), directory()], false), (Vec::new(), true)]
        {
            lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
            lab.nodes[0].arguments = arguments;
            lab.nodes[0].start()?;
            lab.nodes[0].wait_ready()?;
            soon(lab, &pairs(passes))?;
        }
        Ok(())
    });
}
