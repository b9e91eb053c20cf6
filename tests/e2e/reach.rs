//! Who reaches whom: pods, Services, names, probes, host ports, and what kubectl does with a pod.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

use podwire_tests::lab::image::{ask, ask_at};
use podwire_tests::lab::kube::{addresses, world_addresses};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check};
use serde_json::json;

use crate::pods::server;
use crate::stage::{NODES, Stage, repository, scene, until};

#[test]
fn pods_of_all_nodes_reach_one_another_by_address() {
    scene("matrix", |stage| {
        stage
            .apply_text(&std::fs::read_to_string(repository("conf/kubernetes/examples/reachability.yaml")).unwrap())?;
        stage.kubectl(&["rollout", "status", "daemonset/reachability", "--timeout=240s"])?;
        let matrix = until("everybody reaches everybody", || {
            stage.exec("daemonset/reachability", &["/bin/reachability", "show"])
        })?;
        eprintln!("{matrix}");
        let whole = matrix.matches(&format!("{0} of {0}", NODES * NODES)).count();
        check(whole == 2, || format!("not both families of all: {matrix}"))
    });
}

/// Two pods on each node ask each other, those of the same node as well; each sees the other's own address.
#[test]
fn pods_see_one_another_with_their_own_addresses() {
    scene("addresses", |stage| {
        let mut pods = Vec::new();
        for number in 1..=NODES {
            for which in ["a", "b"] {
                stage.apply(&server(&format!("{which}{number}"), number))?;
            }
        }
        for number in 1..=NODES {
            for which in ["a", "b"] {
                let pod = stage.pod(&format!("{which}{number}"))?;
                check(pod.addresses.len() == FAMILIES.len(), || format!("{pod:?}"))?;
                let host = stage.inside(&pod)?;
                pods.push((pod, host));
            }
        }
        for (from, host) in &pods {
            for (to, _) in pods.iter().filter(|(to, _)| to.name != from.name) {
                for like in FAMILIES {
                    let seen = ask(host, to.address(like)?)?;
                    check(seen == from.address(like)?, || format!("{} has seen {} as {seen}", to.name, from.name))?;
                }
            }
        }
        // And their nodes, which ask them at any time for the probes.
        for node in stage.nodes()? {
            for (to, _) in &pods {
                for like in FAMILIES {
                    ask(&node, to.address(like)?)?;
                }
            }
        }
        Ok(())
    });
}

fn service(name: &str, of: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "selector": {"app": of}, "type": "NodePort", "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80, "targetPort": 7777}],
        },
    })
}

#[test]
fn services_and_their_names_lead_to_pods_from_pods_and_from_outside() {
    scene("services", |stage| {
        stage.apply(&service("web", "web"))?;
        let web = stage.run_server("web", 1)?;
        let clients = [stage.run_server("near", 1)?, stage.run_server("far", 2)?];
        let found = stage.look(&["get", "service", "web"])?;
        let virtual_addresses: Vec<IpAddr> =
            crate::stage::texts(&found["spec"]["clusterIPs"]).iter().filter_map(|text| text.parse().ok()).collect();
        check(virtual_addresses.len() == 2, || format!("{found}"))?;
        for client in &clients {
            let host = stage.inside(client)?;
            for address in &virtual_addresses {
                let seen = until("the Service answers", || ask_at(&host, (*address, 80).into()))?;
                let own = client.address(*address)?;
                check(seen == own, || format!("by {address} {} is seen as {seen}", client.name))?;
            }
            // The name, in all its lengths.
            for name in ["web", "web.services", "web.services.svc.cluster.local"] {
                let line = format!("nc -w 5 {name} 80");
                let line = format!("printf 'GET /cgi-bin/seen?{name} HTTP/1.0\\r\\n\\r\\n' | {line}");
                let said = until("the name leads to the Service", || stage.shell(&client.name, &line))?;
                check(said.contains(&format!("{name} [")), || format!("{name} from {}: {said}", client.name))?;
            }
        }
        // A pod that is its own Service.
        let host = stage.inside(&web)?;
        for address in &virtual_addresses {
            ask_at(&host, (*address, 80).into())?;
        }
        // From outside, by every node, also those that the pod is not on.
        let port = found["spec"]["ports"][0]["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| format!("no port on the nodes: {found}"))?;
        for number in 1..=NODES {
            for address in addresses(number) {
                let seen = ask_at(&stage.world, SocketAddr::new(address.ip(), port))?;
                check(!web.addresses.contains(&seen), || format!("by {address} the outside is seen as {seen}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_host_port_leads_to_its_pod_from_outside_and_is_gone_with_it() {
    scene("hostport", |stage| {
        let mut pod = server("web", 3);
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 7777, "hostPort": 8899}]);
        stage.run_pod(&pod)?;
        let client = stage.run_server("client", 1)?;
        let inside = stage.inside(&client)?;
        for address in addresses(3) {
            let to = SocketAddr::new(address.ip(), 8899);
            let own = |seen: IpAddr| world_addresses().iter().any(|address| address.ip() == seen);
            let seen = ask_at(&stage.world, to)?;
            check(own(seen), || format!("{to} has seen the outside as {seen}"))?;
            ask_at(&inside, to)?;
            ask_at(&stage.node(3)?, to)?;
        }
        stage.kubectl(&["delete", "pod", "web", "--timeout=240s"])?;
        until("the port is closed", || match ask_at(&stage.world, SocketAddr::new(addresses(3)[0].ip(), 8899)) {
            Ok(seen) => Err(format!("somebody still answers, and sees {seen}")),
            Err(_) => Ok(()),
        })
    });
}

#[test]
fn probes_decide_who_is_ready_and_who_lives() {
    scene("probes", |stage| {
        let mut pod = server("probed", 2);
        // The probe of the pod's own server, which fails as soon as the file is away.
        let probe = json!({"httpGet": {"path": "/cgi-bin/seen?alive", "port": 7777}, "periodSeconds": 1, "failureThreshold": 1});
        pod["spec"]["containers"][0]["readinessProbe"] = probe.clone();
        pod["spec"]["containers"][0]["livenessProbe"] = probe;
        pod["spec"]["containers"][0]["startupProbe"] = json!({"tcpSocket": {"port": 7777}, "periodSeconds": 1});
        let probed = stage.run_pod(&pod)?;
        let before = probed.addresses.clone();
        stage.shell("probed", "cat /www/cgi-bin/seen > /tmp-seen; : > /www/cgi-bin/seen")?;
        until("kubelet restarts the container", || {
            let restarts = stage.kubectl(&[
                "get",
                "pod",
                "probed",
                "--output=jsonpath={.status.containerStatuses[0].restartCount}",
            ])?;
            check(restarts != "0", || format!("{restarts} restarts"))
        })?;
        // The container is new, with its image's file; the pod and its network are the same.
        let after = stage.pod("probed")?.addresses;
        check(before == after, || format!("{before:?} became {after:?}"))
    });
}

#[test]
fn kubectl_executes_in_pods_reads_their_logs_and_forwards_their_ports() {
    scene("kubectl", |stage| {
        for number in 1..=NODES {
            kubectl_on(stage, number)?;
        }
        Ok(())
    });
}

fn kubectl_on(stage: &Stage, number: u16) -> Outcome {
    let name = format!("pod{number}");
    let mut pod = server(&name, number);
    pod["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", format!("echo {name} has started; exec /bin/httpd -f -p 7777 -h /www")]);
    stage.run_pod(&pod)?;
    let said = stage.kubectl(&["logs", &name])?;
    check(said == format!("{name} has started"), || format!("logs: {said}"))?;
    // A pod's host name is its own name.
    let hostname = stage.exec(&name, &["cat", "/etc/hostname"])?;
    check(hostname == name, || format!("{name} is called {hostname}"))?;

    let mut forward = stage.start(&["port-forward", &format!("pod/{name}"), ":7777"])?;
    let mut lines = BufReader::new(forward.0.stdout.take().ok_or("no output")?).lines();
    // `Forwarding from 127.0.0.1:40123 -> 7777`
    let line = lines.next().and_then(Result::ok).unwrap_or_default();
    let to = line.split_whitespace().nth(2).and_then(|address| address.parse::<SocketAddr>().ok());
    let to = to.ok_or_else(|| format!("kubectl port-forward says {line:?}"))?;
    let seen = ask_at(&stage.world, to)?;
    check(seen.is_loopback(), || format!("through the forwarded port {name} sees {seen}"))
}
