//! `podwired policy`: which policies are in force on a node, and why a packet passes or not. What it says is compared with what
//! traffic does.

use podwire_tests::lab::daemon::{Answer, json as json_of, podwired};
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::policies::{in_force, soon};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::{Value, json};

use crate::api::NODES;
use crate::policies::{PODS, POLICIES, add_pod, policy};
use crate::stage::{SETTINGS_WITH_POLICIES, node, policed, share, start};

/// What a command of podwired on a node answers.
fn ask(lab: &Lab, node: usize, arguments: &str) -> Outcome<Answer> {
    podwired(&lab.nodes[node].host, &arguments.split(' ').collect::<Vec<_>>())
}

/// The explanation of a packet, and the exit code.
fn explain(lab: &Lab, node: usize, question: &str) -> Outcome<(Option<i32>, Value)> {
    let Answer { code, said, complaint } = ask(lab, node, &format!("policy explain {question} --json"))?;
    let document = serde_json::from_str(&said).map_err(|error| format!("{question}: {error}: {said}{complaint}"))?;
    Ok((code, document))
}

/// A packet between two ends is explained so, in every family.
fn is_explained(lab: &Lab, node: usize, question: &str, code: i32, ends: [&Value; 2]) -> Outcome {
    let (found, document) = explain(lab, node, question)?;
    let packets = document["packets"].as_array().map_or(&[][..], |packets| packets);
    let [egress, ingress] = ends;
    let same = packets.iter().all(|packet| packet["egress"] == *egress && packet["ingress"] == *ingress);
    let right = found == Some(code) && document["allowed"] == (code == 0) && !packets.is_empty() && same;
    check(right, || format!("{question} on node {node}: exit code {found:?}: {document:#}"))
}

#[test]
fn a_packet_is_explained_at_each_end_as_the_kernel_judges_it() {
    policed(2, |lab, api| {
        add_pod(api, &mut lab.nodes[0], "server", &json!({"app": "server"}))?;
        add_pod(api, &mut lab.nodes[0], "near", &json!({"app": "client"}))?;
        add_pod(api, &mut lab.nodes[1], "far", &json!({"app": "other"}))?;
        let _responder = Responder::start(&lab.nodes[0].pod("server").host)?;
        let not_isolated = json!({"verdict": "not-isolated"});
        let elsewhere = |node: &str| json!({"verdict": "elsewhere", "node": node});
        let (near, far, server) = ((0, "near"), (1, "far"), (0, "server"));
        eventually(SOON, || {
            is_explained(lab, 0, "default/near default/server 7777", 0, [&not_isolated, &not_isolated])?;
            let list = ask(lab, 0, "policy list")?;
            check(list.code == Some(0) && list.said == "No policy selects a pod of node node-1.\n", || list.said)
        })?;

        let server_only = json!({"matchLabels": {"app": "server"}});
        api.create(POLICIES, &policy("deny", &json!({"podSelector": {}, "policyTypes": ["Ingress"]})))?;
        let clients = json!({
            "podSelector": server_only,
            "ingress": [
                {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]},
                {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": "echo"}]},
            ],
        });
        api.create(POLICIES, &policy("clients", &clients))?;
        let mut audit = policy("watch", &json!({"podSelector": server_only, "policyTypes": ["Egress"]}));
        audit["metadata"]["annotations"] = json!({"podwire.dev/audit": "true"});
        api.create(POLICIES, &audit)?;
        soon(lab, &[(near, server, true), (far, server, false)])?;

        let allowed = |rule: &str| json!({"verdict": "allowed", "policy": "default/clients", "rule": rule});
        let denied = |others: Value| json!({"verdict": "denied", "policies": ["default/clients", "default/deny"], "others": others});
        let others = json!([{"policy": "default/clients", "rule": "ingress[1]", "ports": ["TCP 7777"]}]);
        let cases = [
            (0, "default/near default/server 7777", 0, &not_isolated, &allowed("ingress[1]")),
            (0, "default/near default/server 80/tcp", 1, &not_isolated, &denied(others.clone())),
            (0, "default/near default/server", 1, &not_isolated, &denied(others.clone())),
            (0, "default/near default/server 7777/UDP", 1, &not_isolated, &denied(others)),
            (0, "default/server default/server 80", 0, &not_isolated, &json!({"verdict": "itself"})),
            // From another node: each explains its own end.
            (0, "default/far default/server 7777", 1, &elsewhere("node-2"), &denied(json!([]))),
            (1, "default/far default/server 7777", 0, &not_isolated, &elsewhere("node-1")),
            // No pod: outside, another node, the own node.
            (0, "203.0.113.9 default/server 80", 0, &json!({"verdict": "no-pod"}), &allowed("ingress[0]")),
            (0, "198.51.100.9 default/server 80", 1, &json!({"verdict": "no-pod"}), &denied(json!([]))),
            (0, "192.168.50.2 default/server 80", 1, &json!({"verdict": "no-pod"}), &denied(json!([]))),
            (0, "192.168.50.1 default/server 80", 0, &json!({"verdict": "no-pod"}), &json!({"verdict": "own-node"})),
            (0, "10.244.1.0 default/server 80", 0, &json!({"verdict": "no-pod"}), &json!({"verdict": "own-node"})),
            (0, "default/server 192.168.50.1 80", 0, &json!({"verdict": "own-node"}), &json!({"verdict": "no-pod"})),
        ];
        eventually(SOON, || {
            cases.iter().try_for_each(|(node, question, code, egress, ingress)| {
                is_explained(lab, *node, question, *code, [egress, ingress])
            })
        })?;
        // An address is the pod that has it, and a name both its addresses.
        let address = lab.nodes[0].pod("server").address(FAMILIES[1]);
        let (_, of_address) = explain(lab, 0, &format!("default/near {address} 7777"))?;
        let names = (&of_address["source"]["pod"], &of_address["destination"]["pod"], &of_address["packets"][1]);
        check(names == (&json!("default/near"), &json!("default/server"), &Value::Null), || of_address.to_string())?;
        let (_, of_names) = explain(lab, 0, "default/far default/server 7777")?;
        let packets = of_names["packets"].as_array().map_or(0, Vec::len);
        check(packets == 2 && of_names["source"]["node"] == "node-2", || of_names.to_string())?;

        // A pod with its node's network, and pods that are none.
        let host = json!({
            "metadata": {"name": "host", "labels": {"app": "client"}},
            "spec": {
                "nodeName": "node-2", "hostNetwork": true, "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "none"}],
            },
        });
        api.create(PODS, &host)?;
        let refused = |question: &str, part: &str| {
            let answer = ask(lab, 0, &format!("policy explain {question}"))?;
            let right = answer.code == Some(2) && answer.said.is_empty() && answer.complaint.contains(part);
            check(right, || format!("{question}: {:?} {}{}", answer.code, answer.said, answer.complaint))
        };
        eventually(SOON, || refused("default/host default/server 80", "pod default/host has no address yet"))?;
        let status =
            json!({"status": {"phase": "Running", "podIP": "192.168.50.2", "podIPs": [{"ip": "192.168.50.2"}]}});
        api.patch(&format!("{PODS}/host/status"), &status)?;
        let of_host = [&json!({"verdict": "no-pod"}), &denied(json!([]))];
        eventually(SOON, || is_explained(lab, 0, "default/host default/server 7777", 1, of_host))?;
        for (question, part) in [
            (
                "default/nobody default/server",
                "explain default/nobody to default/server: pod default/nobody: no such pod",
            ),
            ("nobody default/server", "\"nobody\" is neither an address nor a pod: write"),
            ("default/near default/server 0", "\"0\" is no port: write 1 to 65535"),
            ("default/near default/server 80/ICMP", "\"ICMP\" is no protocol with ports that policies know"),
            ("10.244.1.9 fd00::9", "10.244.1.9 and fd00::9 have no addresses of one family"),
        ] {
            refused(question, part)?;
        }

        // For people.
        let said = ask(lab, 0, "policy explain default/near default/server 80")?.said;
        for line in [
            "default/near -> default/server, TCP 80: denied\n",
            "  egress   default/near: not isolated: no policy isolates it on node-1\n",
            "  ingress  default/server: denied: isolated by default/clients, default/deny, and no rule of theirs allows this\n",
            "           allowed is TCP 7777 by default/clients ingress[1]\n",
            "  So that it passes, a policy that selects default/server has to allow ingress from default/near, TCP 80.\n",
        ] {
            check(said.contains(line) && !said.contains('\u{1b}'), || format!("no {line:?} in {said}"))?;
        }
        let list = json_of(&lab.nodes[0].host, &["policy", "list", "--json"])?;
        let listed = |policy: &str, audit: bool, ingress: &[&str], egress: &[&str]| json!({"policy": policy, "audit": audit, "ingress": ingress, "egress": egress});
        let expected = json!([
            listed("default/clients", false, &["default/server"], &[]),
            listed("default/deny", false, &["default/near", "default/server"], &[]),
            listed("default/watch", true, &[], &["default/server"]),
        ]);
        let right = list["policies"] == expected && list["others"] == 0 && list["in_force"] == true;
        check(right, || format!("{list:#}"))?;
        let there = json_of(&lab.nodes[1].host, &["policy", "list", "--json"])?;
        check(there["policies"] == json!([listed("default/deny", false, &["default/far"], &[])]), || {
            there.to_string()
        })?;
        check(there["others"] == 2, || there.to_string())?;

        // It follows what is in force.
        api.delete(&format!("{POLICIES}/deny"))?;
        api.delete(&format!("{POLICIES}/clients"))?;
        eventually(SOON, || {
            is_explained(lab, 0, "default/near default/server 7777", 0, [&not_isolated, &not_isolated])
        })?;
        soon(lab, &[(far, server, true)])
    });
}

#[test]
fn refused_packets_are_counted_by_the_pod_that_is_isolated_and_go_on_when_policies_change() {
    policed(1, |lab, api| {
        add_pod(api, &mut lab.nodes[0], "server", &json!({"app": "server"}))?;
        add_pod(api, &mut lab.nodes[0], "near", &json!({"app": "client"}))?;
        let _responder = Responder::start(&lab.nodes[0].pod("server").host)?;
        let (near, server) = ((0, "near"), (0, "server"));
        let deny = |app: &str, direction: &str| json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [direction]});
        let policies =
            |lab: &Lab| Ok::<_, String>(json_of(&lab.nodes[0].host, &["status", "--json"])?["network_policy"].take());
        // The packets of each pod: from it, and to it.
        let counted = |policies: &Value, pod: &str| {
            let pods = policies["refused_pods"].as_array().map_or(&[][..], |pods| pods);
            let found = pods.iter().find(|found| found["namespace"] == "default" && found["pod"] == pod);
            found.map(|found| ["from_pod", "to_pod"].map(|key| found[key].as_u64().unwrap_or(u64::MAX)))
        };
        api.create(POLICIES, &policy("to-server", &deny("server", "Ingress")))?;
        soon(lab, &[(near, server, false)])?;
        let found = policies(lab)?;
        let [from, first] = counted(&found, "server").ok_or_else(|| found.to_string())?;
        let right = from == 0 && first > 0 && found["refused_to_pods"] == first && counted(&found, "near").is_none();
        check(right, || found.to_string())?;
        // Both families, in one pod.
        let addresses = found["refused_pods"][0]["addresses"].as_array().map_or(0, Vec::len);
        check(addresses == 2, || found.to_string())?;

        // Another policy, of the same pod; and one that refuses at the other end.
        api.create(POLICIES, &policy("to-server-too", &deny("server", "Ingress")))?;
        api.create(POLICIES, &policy("from-near", &deny("client", "Egress")))?;
        eventually(SOON, || {
            let found = policies(lab)?;
            check(found["isolated_pods"] == 2, || found.to_string())
        })?;
        soon(lab, &[(near, server, false)])?;
        let found = policies(lab)?;
        let [from, to] = counted(&found, "near").ok_or_else(|| found.to_string())?;
        check(from > 0 && to == 0, || found.to_string())?;
        check(counted(&found, "server").is_some_and(|[_, then]| then >= first), || format!("{first} before: {found}"))?;
        let sets = |lab: &Lab| {
            let said = lab.nodes[0].daemon.as_ref().map(|daemon| daemon.said()).unwrap_or_default();
            said.into_iter().filter(|line| line.contains("ingress-refused")).collect::<Vec<_>>()
        };
        // One, of both families. What was counted is no difference that the daemon would have to mend.
        lab.nodes[0].host.run("nft", &["add", "table", "inet", "foreign"])?;
        api.delete(&format!("{POLICIES}/to-server-too"))?;
        eventually(SOON, || {
            let found = policies(lab)?;
            check(found["policies"] == 2, || found.to_string())
        })?;
        check(sets(lab).len() == 1, || format!("{:?}", sets(lab)))?;

        // A daemon that starts anew goes on.
        let before = policies(lab)?["refused_pods"].take();
        lab.nodes[0].daemon.take().ok_or("no daemon")?.kill()?;
        start(&mut lab.nodes[0])?;
        lab.nodes[0].daemon.as_ref().ok_or("no daemon")?.wait_for("the policies are in force", SOON)?;
        let after = policies(lab)?["refused_pods"].take();
        check(after == before && sets(lab).is_empty(), || format!("{before}, then {after}, {:?}", sets(lab)))?;
        let said = ask(lab, 0, "status")?.said;
        check(said.contains("\npolicies refused  packets from it  packets to it\n"), || said.clone())?;
        // Nothing is left of a pod that is isolated no more.
        api.delete(&format!("{POLICIES}/to-server"))?;
        api.delete(&format!("{POLICIES}/from-near"))?;
        eventually(SOON, || {
            let found = policies(lab)?;
            check(found["refused_pods"] == json!([]) && found["isolated_pods"] == 0, || found.to_string())
        })
    });
}

#[test]
fn what_an_audit_policy_would_refuse_passes_and_is_counted_until_it_is_enforced() {
    policed(1, |lab, api| {
        add_pod(api, &mut lab.nodes[0], "server", &json!({"app": "server"}))?;
        add_pod(api, &mut lab.nodes[0], "near", &json!({"app": "client"}))?;
        let _responder = Responder::start(&lab.nodes[0].pod("server").host)?;
        let (near, server) = ((0, "near"), (0, "server"));
        let mut watch = policy("watch", &json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": []}));
        watch["metadata"]["annotations"] = json!({"podwire.dev/audit": "true"});
        api.create(POLICIES, &watch)?;
        let would_deny = json!({"verdict": "would-deny", "policies": ["default/watch"], "others": []});
        let not_isolated = json!({"verdict": "not-isolated"});
        eventually(SOON, || is_explained(lab, 0, "default/near default/server 7777", 0, [&not_isolated, &would_deny]))?;
        let said = ask(lab, 0, "policy explain default/near default/server 7777")?.said;
        let line = "default/server: not isolated: no policy isolates it on node-1; default/watch would deny it if enforced (audit)";
        check(said.contains(line), || said.clone())?;
        soon(lab, &[(near, server, true)])?;
        let policies =
            |lab: &Lab| Ok::<_, String>(json_of(&lab.nodes[0].host, &["status", "--json"])?["network_policy"].take());
        let found = policies(lab)?;
        let audited = &found["audited_pods"][0];
        let named = audited["namespace"] == "default" && audited["pod"] == "server" && audited["from_pod"] == 0;
        let counted = audited["to_pod"].as_u64().is_some_and(|packets| packets >= 2);
        let both = audited["addresses"].as_array().is_some_and(|addresses| addresses.len() == 2);
        let nothing =
            found["refused_pods"] == json!([]) && found["refused_to_pods"] == 0 && found["isolated_pods"] == 0;
        check(named && counted && both && nothing, || found.to_string())?;
        // What is enforced for the pod counts alone.
        let open = json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"ports": [{"port": 7777}]}]});
        api.create(POLICIES, &policy("open", &open))?;
        let allowed = json!({"verdict": "allowed", "policy": "default/open", "rule": "ingress[0]"});
        eventually(SOON, || is_explained(lab, 0, "default/near default/server 7777", 0, [&not_isolated, &allowed]))?;
        soon(lab, &[(near, server, true)])?;
        let found = policies(lab)?;
        check(found["audited_pods"] == json!([]) && found["isolated_pods"] == 1, || found.to_string())?;
        api.delete(&format!("{POLICIES}/open"))?;
        // Without the annotation it refuses, what has begun as well.
        let streams = FAMILIES.map(|like| {
            let (near, server) = (lab.nodes[0].pod("near"), lab.nodes[0].pod("server"));
            Stream::start(&near.host, &server.host, server.address(like))
        });
        let streams: Vec<_> = streams.into_iter().collect::<Result<_, _>>()?;
        streams.iter().try_for_each(Stream::flows)?;
        let enforced = json!({"metadata": {"annotations": {"podwire.dev/audit": "false"}}});
        api.patch(&format!("{POLICIES}/watch"), &enforced)?;
        streams.iter().try_for_each(Stream::is_cut)?;
        soon(lab, &[(near, server, false)])?;
        let found = policies(lab)?;
        let refused = found["refused_pods"][0]["to_pod"].as_u64().is_some_and(|packets| packets > 0);
        check(refused && found["audited_pods"] == json!([]), || found.to_string())
    });
}

#[test]
fn the_doctor_finds_policies_without_effect_and_services_that_go_past_them() {
    policed(1, |lab, api| {
        add_pod(api, &mut lab.nodes[0], "server", &json!({"app": "server"}))?;
        let found = |lab: &Lab| {
            let findings = json_of(&lab.nodes[0].host, &["doctor", "--json"])?;
            let findings = findings.as_array().cloned().unwrap_or_default();
            let of_policies = findings.into_iter().filter(|finding| finding["check"] == "policies");
            Ok::<_, String>(
                of_policies.map(|finding| (finding["kind"].clone(), finding["subject"].clone())).collect::<Vec<_>>(),
            )
        };
        let rule = |port: &str| json!([{"ports": [{"port": port}]}]);
        let of = |app: &str, port: &str| json!({"podSelector": {"matchLabels": {"app": app}}, "ingress": rule(port)});
        api.create(POLICIES, &policy("right", &of("server", "echo")))?;
        eventually(SOON, || {
            let list = json_of(&lab.nodes[0].host, &["policy", "list", "--json"])?;
            check(list["policies"].as_array().is_some_and(|listed| listed.len() == 1), || list.to_string())
        })?;
        let nothing = found(lab)?;
        check(nothing.is_empty(), || format!("{nothing:?}"))?;
        api.create(POLICIES, &policy("misspelt", &of("sever", "echo")))?;
        api.create(POLICIES, &policy("port", &of("server", "ehco")))?;
        // Of the range that the API server has for Services.
        let block = |cidr: &str| json!({"to": [{"ipBlock": {"cidr": cidr}}]});
        let rules = json!([block("203.0.113.0/24"), block("10.96.0.10/32")]);
        let to_service = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules});
        api.create(POLICIES, &policy("service", &to_service))?;
        lab.nodes[0].host.run("ip", &["link", "add", "kube-ipvs0", "type", "ifb"])?;
        let expected = [
            ("services-past-policies", "kube-ipvs0"),
            ("policy-selects-none", "default/misspelt"),
            ("port-undeclared", "default/port"),
            ("block-of-services", "default/service"),
        ];
        let expected = expected.map(|(kind, subject)| (json!(kind), json!(subject)));
        eventually(SOON, || {
            let found = found(lab)?;
            check(found == expected, || format!("{found:?}"))
        })?;
        let said = ask(lab, 0, "policy list")?.said;
        let line = "without effect  default/port ingress[0]: no pod that could be meant declares the port TCP ehco\n";
        check(said.contains(line), || said.clone())?;
        let line = "without effect  default/service egress[1]: the block 10.96.0.10/32 has addresses of Services only,";
        check(said.contains(line), || said.clone())
    });
}

#[test]
fn without_the_right_to_read_service_ranges_policies_are_in_force_and_their_blocks_are_not_found_until_there_is_one() {
    crate::stage::kubernetes(1, |lab, api| {
        api.allow_policies()?;
        let may_read = |resources: &[&str]| {
            let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
            let of_cluster = read("policy.networking.k8s.io", &["clusternetworkpolicies"]);
            let rules = json!([read("", &["pods", "namespaces"]), read("networking.k8s.io", resources), of_cluster]);
            api.patch("/apis/rbac.authorization.k8s.io/v1/clusterroles/podwired-policies", &json!({"rules": rules}))
        };
        may_read(&["networkpolicies"])?;
        share(lab, "podwired.toml", SETTINGS_WITH_POLICIES)?;
        api.create(NODES, &node(1))?;
        let rules = json!([{"to": [{"ipBlock": {"cidr": "10.96.0.10/32"}}]}]);
        api.create(
            POLICIES,
            &policy("service", &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules})),
        )?;
        start(&mut lab.nodes[0])?;
        let daemon = lab.nodes[0].daemon.as_ref().ok_or("no daemon")?;
        let line = daemon.wait_for("servicecidrs", SOON)?;
        check(line.contains("allow it to get, list and watch servicecidrs"), || line)?;
        in_force(&lab.nodes[0])?;
        let blocks =
            || Ok::<_, String>(json_of(&lab.nodes[0].host, &["policy", "list", "--json"])?["service_blocks"].clone());
        let found = blocks()?;
        check(found == json!([]), || found.to_string())?;
        let warnings = daemon.said().iter().filter(|line| line.contains(" WARN ")).count();
        check(warnings == 1, || format!("{warnings} warnings"))?;
        may_read(&["networkpolicies", "servicecidrs"])?;
        let expected = json!([{"policy": "default/service", "rule": "egress[0]", "block": "10.96.0.10/32"}]);
        eventually(SOON, || {
            let found = blocks()?;
            check(found == expected, || found.to_string())
        })
    });
}

#[test]
fn where_policies_are_switched_off_that_is_said() {
    crate::stage::cluster(1, |lab, _| {
        for question in ["policy list", "policy explain 10.244.1.2 10.244.1.3"] {
            let answer = ask(lab, 0, question)?;
            let said = "NetworkPolicies have no effect on node node-1, and refuse nothing: they are switched off; set";
            let right = answer.code == Some(2) && answer.said.is_empty() && answer.complaint.contains(said);
            check(right, || format!("{question}: {:?} {}{}", answer.code, answer.said, answer.complaint))?;
        }
        Ok(())
    });
}
