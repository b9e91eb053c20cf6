//! The log of refused packets (`log_refused`): a line for each, with the names of both pods and the policies that isolate; no more of
//! them than the rate; and what is refused is dropped whether it is logged or not.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use podwire_conf::defaults::POLICY_LOG_GROUP;
use podwire_kernel::nflog::PacketLog;
use podwire_tests::lab::exchange::{PORT, Responder, is_dropped};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::policies::{
    add_pod, announce, directory, follow, in_force, log_refused, now, pods_of, policed, problems, put, put_audited,
    put_tier, refused_lines, soon, take, write,
};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, reaches, same, scene, state};
use podwire_tests::lab::{Lab, SOON, daemon, eventually};
use serde_json::{Value, json};

/// The daemon says every ten seconds what it has not logged, and tries as often to read the group.
const TOLD: Duration = Duration::from_secs(25);

/// A lab whose daemons follow a policy directory and log what is refused.
#[track_caller]
fn logging(nodes: u16, body: impl FnOnce(&mut Lab) -> Outcome) {
    scene(nodes, |lab| {
        follow(lab)?;
        log_refused(lab)?;
        lab.start()?;
        body(lab)
    });
}

fn isolates(app: &str, types: &[&str]) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": types})
}

/// The lines about packets that were refused, or would have been, so far.
fn lines(lab: &Lab, node: usize) -> Outcome<Vec<String>> {
    refused_lines(&lab.nodes[node])
}

/// Waits for a line that has all these words.
fn said(lab: &Lab, node: usize, words: &[String]) -> Outcome {
    eventually(SOON, || {
        let lines = lines(lab, node)?;
        let is = lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
        check(is, || format!("no line has {words:?}: {}", lines.join("\n")))
    })
}

/// What a line has of a packet.
fn of_packet(from: (&str, IpAddr), to: (&str, IpAddr), rest: &str) -> Vec<String> {
    let ends = format!(
        "source=\"{}\" source_address={} destination=\"{}\" destination_address={} ",
        from.0, from.1, to.0, to.1
    );
    vec![ends, rest.to_owned()]
}

fn datagrams(from: &Host, to: IpAddr, count: usize) -> Outcome {
    let send = || {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        (0..count).try_for_each(|_| socket.send_to(b"?", (to, PORT)).map(drop))
    };
    from.enter(send).map_err(|error: std::io::Error| format!("from {} to {to}: {error}", from.name))
}

#[test]
fn a_refused_packet_is_logged_with_both_names_and_the_policies_that_isolate() {
    logging(2, |lab| {
        add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
        add_pod(&mut lab.nodes[0], "near", &[("app", "near")])?;
        add_pod(&mut lab.nodes[1], "far", &[("app", "far")])?;
        announce(lab, (1, "far"), &json!({"app": "far"}))?;
        let _server = Responder::start(&lab.nodes[0].pod("server").host)?;
        put(lab, "nobody", &isolates("server", &["Ingress"]))?;
        put(lab, "another", &isolates("server", &["Ingress", "Egress"]))?;
        put(lab, "silent", &isolates("near", &["Egress"]))?;
        soon(lab, &[((1, "far"), (0, "server"), false), ((0, "near"), (0, "server"), false)])?;
        let by = |policies: &str, protocol: &str| format!("protocol={protocol} policies=\"{policies}\"");
        for like in FAMILIES {
            let [server, near] = ["server", "near"].map(|name| lab.nodes[0].pod(name).address(like));
            let far = lab.nodes[1].pod("far").address(like);
            let (server, near) = (("default/server", server), ("default/near", near));
            let policies = "default/another, default/nobody";
            let line = of_packet(("default/far", far), server, &by(policies, "TCP port=7777"));
            said(lab, 0, &[line, vec!["refused a packet direction=\"ingress\"".into()]].concat())?;
            let line = of_packet(near, server, &by("default/silent", "TCP port=7777"));
            said(lab, 0, &[line, vec!["refused a packet direction=\"egress\"".into()]].concat())?;
            // A protocol without ports; and a node, whose packets arrive from its overlay address.
            let (host, icmp) = (&lab.nodes[1].pod("far").host, if like.is_ipv4() { "ICMP" } else { "ICMPv6" });
            let pinged = host.run("ping", &["-c", "1", "-W", "1", &server.1.to_string()]);
            check(pinged.is_err(), || "the server answers a ping".into())?;
            said(lab, 0, &of_packet(("default/far", far), server, &by(policies, icmp)))?;
            is_dropped(&lab.nodes[1].host, server.1)?;
            said(lab, 0, &["source=\"node node-2\"".into(), format!("destination_address={} ", server.1)])?;
        }
        check(lines(lab, 1)?.is_empty(), || "the other node has refused nothing".into())
    });
}

#[test]
fn what_a_policy_would_refuse_that_is_not_enforced_is_logged_as_such() {
    logging(1, |lab| {
        add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
        add_pod(&mut lab.nodes[0], "near", &[("app", "near")])?;
        let _server = Responder::start(&lab.nodes[0].pod("server").host)?;
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "tried", "annotations": {"podwire.dev/audit": "true"}}, "spec": isolates("server", &["Ingress"]),
        });
        write(lab, "tried.json", &policy.to_string())?;
        for like in FAMILIES {
            let [server, near] = ["server", "near"].map(|name| lab.nodes[0].pod(name).address(like));
            let rest = "protocol=TCP port=7777 policies=\"default/tried\"";
            let line = of_packet(("default/near", near), ("default/server", server), rest);
            eventually(SOON, || {
                reaches(&lab.nodes[0].pod("near").host, near, server)?;
                let lines = lines(lab, 0)?;
                let is = |found: &String| {
                    line.iter().all(|word| found.contains(word)) && found.contains(" would refuse a packet ")
                };
                check(lines.iter().any(is), || format!("no line has {line:?}: {}", lines.join("\n")))
            })?;
        }
        Ok(())
    });
}

#[test]
fn what_cluster_network_policies_refuse_is_logged_with_the_rule_that_has_decided() {
    logging(1, |lab| {
        add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
        add_pod(&mut lab.nodes[0], "near", &[("app", "near")])?;
        let _server = Responder::start(&lab.nodes[0].pod("server").host)?;
        let becomes = |lab: &Lab, passes: bool, sentence: &str, by: &str| {
            eventually(SOON, || {
                now(lab, &[((0, "near"), (0, "server"), passes)])?;
                let lines = lines(lab, 0)?;
                FAMILIES.into_iter().try_for_each(|like| {
                    let [server, near] = ["server", "near"].map(|name| lab.nodes[0].pod(name).address(like));
                    let end = format!("protocol=TCP port=7777 {by}");
                    let words = of_packet(("default/near", near), ("default/server", server), sentence);
                    let is = |line: &String| words.iter().all(|word| line.contains(word)) && line.ends_with(&end);
                    check(lines.iter().any(is), || {
                        format!("no line of {words:?} ends with {end}: {}", lines.join("\n"))
                    })
                })
            })
        };
        let refused_at = |end: &str| format!(" refused a packet direction=\"{end}\"");
        // By a rule of the first tier, whatever protocol it is.
        let [accept, deny] = [("Accept", "other"), ("Deny", "near")].map(
            |(action, app)| json!({"action": action, "name": format!("of-{app}"), "from": [{"pods": pods_of(app)}]}),
        );
        put_tier(lab, "first", ("Admin", 10), &pods_of("server"), &json!({"ingress": [accept, deny]}))?;
        let by = "policies=\"first\" tier=\"Admin\" rule=\"ingress[1]\" rule_name=\"of-near\"";
        becomes(lab, false, &refused_at("ingress"), by)?;
        for (like, protocol) in FAMILIES.into_iter().zip(["ICMP", "ICMPv6"]) {
            let [server, near] = ["server", "near"].map(|name| lab.nodes[0].pod(name).address(like));
            let pinged = lab.nodes[0].pod("near").host.run("ping", &["-c", "1", "-W", "1", &server.to_string()]);
            check(pinged.is_err(), || "the server answers a ping".into())?;
            let by = format!("protocol={protocol} {by}");
            said(lab, 0, &of_packet(("default/near", near), ("default/server", server), &by))?;
        }
        // By one of the last tier, at the other end.
        take(lab, "first")?;
        let deny = json!({"egress": [{"action": "Deny", "to": [{"pods": pods_of("server")}]}]});
        put_tier(lab, "last", ("Baseline", 10), &pods_of("near"), &deny)?;
        becomes(lab, false, &refused_at("egress"), "policies=\"last\" tier=\"Baseline\" rule=\"egress[0]\"")?;
        // By the NetworkPolicies between them, behind the first tier, which has passed it on.
        let pass = json!({"egress": [{"action": "Pass", "to": [{"pods": pods_of("server")}]}]});
        put_tier(lab, "passes", ("Admin", 10), &pods_of("near"), &pass)?;
        put(lab, "silent", &isolates("near", &["Egress"]))?;
        becomes(lab, false, &refused_at("egress"), "policies=\"default/silent\"")?;
        // By one that is not enforced: it passes.
        ["last", "passes", "silent"].into_iter().try_for_each(|policy| take(lab, policy))?;
        let deny = json!({"ingress": [{"action": "Deny", "from": [{"pods": pods_of("near")}]}]});
        put_audited(lab, "tried", ("Baseline", 10), &pods_of("server"), &deny)?;
        let by = "policies=\"tried\" tier=\"Baseline\" rule=\"ingress[0]\"";
        becomes(lab, true, " would refuse a packet direction=\"ingress\"", by)
    });
}

#[test]
fn more_refused_packets_than_the_rate_are_counted_in_one_line_and_all_are_dropped() {
    logging(1, |lab| {
        add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
        add_pod(&mut lab.nodes[0], "near", &[("app", "near")])?;
        put(lab, "nobody", &isolates("server", &["Ingress"]))?;
        soon(lab, &[((0, "near"), (0, "server"), false)])?;
        for like in FAMILIES {
            datagrams(&lab.nodes[0].pod("near").host, lab.nodes[0].pod("server").address(like), 400)?;
        }
        eventually(TOLD, || {
            let refused =
                daemon::json(&lab.nodes[0].host, &["status", "--json"])?["network_policy"]["refused_to_pods"].as_u64();
            let lines = lines(lab, 0)?.len() as u64;
            let said = daemon::of(&lab.nodes[0])?.said();
            let more = said.iter().filter_map(|line| line.split_once("more such packets were not logged packets="));
            let more: u64 = more.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum();
            // Twenty at once, of both families together, and a few each second while the scene has begun.
            check(refused == Some(lines + more) && more > 600, || {
                format!("{refused:?} packets were refused; {lines} are logged, and {more} were said not to be")
            })
        })
    });
}

#[test]
fn switched_off_there_is_no_rule_and_no_reader_and_switched_on_it_leaves_nothing_behind() {
    policed(1, |lab| {
        add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
        add_pod(&mut lab.nodes[0], "near", &[("app", "near")])?;
        let _server = Responder::start(&lab.nodes[0].pod("server").host)?;
        put(lab, "nobody", &isolates("server", &["Ingress"]))?;
        let refused = [((0, "near"), (0, "server"), false)];
        soon(lab, &refused)?;
        in_force(&lab.nodes[0])?;
        let host = lab.nodes[0].host.clone();
        let is_free =
            || host.enter(|| PacketLog::open(POLICY_LOG_GROUP, 64).map(drop)).map_err(|error| error.to_string());
        is_free()?;
        let before = state(&host)?;
        let table = host.run("nft", &["list", "table", "inet", "podwire-policy"])?;
        check(!table.contains(" log ") && !table.contains("limit"), || table)?;
        check(lines(lab, 0)?.is_empty(), || "it has logged".into())?;
        let policies = directory();
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        daemon::start_with_settings(&mut lab.nodes[0], "log_refused = true\n", &["--policies", &policies])?;
        eventually(SOON, || {
            let table = host.run("nft", &["list", "table", "inet", "podwire-policy"])?;
            check(table.contains("group 11200"), || table)
        })?;
        now(lab, &refused)?;
        eventually(SOON, || check(is_free().is_err(), || "nobody reads the group".into()))?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        eventually(SOON, || same("the node", &before, &state(&host)?))?;
        is_free()?;
        now(lab, &refused)
    });
}

#[test]
fn where_another_program_reads_the_group_packets_are_refused_all_the_same_and_status_says_so() {
    scene(1, |lab| {
        follow(lab)?;
        let policies = directory();
        let host = lab.nodes[0].host.clone();
        let other = host.enter(|| PacketLog::open(POLICY_LOG_GROUP, 64)).map_err(|error| error.to_string())?;
        daemon::start_with_settings(&mut lab.nodes[0], "log_refused = true\n", &["--policies", &policies])?;
        add_pod(&mut lab.nodes[0], "server", &[("app", "server")])?;
        add_pod(&mut lab.nodes[0], "near", &[("app", "near")])?;
        let _server = Responder::start(&lab.nodes[0].pod("server").host)?;
        put(lab, "nobody", &isolates("server", &["Ingress"]))?;
        let refused = [((0, "near"), (0, "server"), false)];
        soon(lab, &refused)?;
        let named = problems(&lab.nodes[0], "refused-not-logged")?;
        let is = |text: &str| text.contains("read group 11200 of the packet log: ") && text.contains("another program");
        check(named.len() == 1 && is(&named[0].1), || format!("{named:?}"))?;
        check(lines(lab, 0)?.is_empty(), || "it has logged".into())?;
        drop(other);
        eventually(TOLD, || {
            now(lab, &refused)?;
            let (named, lines) = (problems(&lab.nodes[0], "refused-not-logged")?, lines(lab, 0)?);
            check(named.is_empty() && !lines.is_empty(), || format!("{named:?}, {lines:?}"))
        })
    });
}
