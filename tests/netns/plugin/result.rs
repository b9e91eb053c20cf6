//! What is answered: in the words of the version that is asked for, as the kernel has it; and failures.

use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{check, field, json as look, same, scene};
use serde_json::{Value, json};

use super::attachment::{changed, host_device, snapshot};
use super::protocol::VERSIONS;
use super::stage::{alone, bare, held};

/// The keys that a result of a version may have: at the top, of an interface, of an address, of a route.
fn keys(version: &str) -> [&'static [&'static str]; 4] {
    match version {
        "0.1.0" | "0.2.0" => [&["cniVersion", "ip4", "ip6", "dns"], &[], &["ip", "gateway", "routes"], &["dst", "gw"]],
        "0.3.0" | "0.3.1" | "0.4.0" => [
            &["cniVersion", "interfaces", "ips", "routes", "dns"],
            &["name", "mac", "sandbox"],
            &["version", "interface", "address", "gateway"],
            &["dst", "gw"],
        ],
        "1.0.0" => [
            &["cniVersion", "interfaces", "ips", "routes", "dns"],
            &["name", "mac", "sandbox"],
            &["interface", "address", "gateway"],
            &["dst", "gw"],
        ],
        _ => [
            &["cniVersion", "interfaces", "ips", "routes", "dns"],
            &["name", "mac", "sandbox", "mtu", "socketPath", "pciID"],
            &["interface", "address", "gateway"],
            &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"],
        ],
    }
}

#[test]
fn n1_n2_r22_d22_every_version_is_answered_in_its_own_shape() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let asked = [("", "0.1.0"), ("null", "0.1.0")].into_iter().chain(VERSIONS.map(|version| (version, version)));
        for (asked, answered) in asked {
            let mut configuration = alone(asked);
            if asked == "null" {
                configuration["cniVersion"] = Value::Null;
            }
            configuration["ipam"]["routes"][0]["priority"] = json!(7);
            let add = Call::new("ADD", "p1", &path, &configuration);
            let result = add.execute(&host)?.result().map_err(|why| format!("{asked}: {why}"))?;
            check(result["cniVersion"] == answered, || format!("{asked}: {result}"))?;

            let only = |entry: &Value, allowed: &[&str]| {
                let keys: Vec<_> = entry.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
                let good = !keys.is_empty() && keys.iter().all(|key| allowed.contains(&key.as_str()));
                check(good, || format!("{asked}: {keys:?} in {entry}"))
            };
            let [top, interface, address, route] = keys(answered);
            only(&result, top)?;
            let every = |list: &Value, count: usize, allowed: &[&str]| {
                let list = list.as_array().cloned().unwrap_or_default();
                check(list.len() == count, || format!("{asked}: {list:?}"))?;
                list.iter().try_for_each(|entry| only(entry, allowed))
            };
            if interface.is_empty() {
                // The way to the gateway of IPv4 is a route, too.
                for (single, count) in [(&result["ip4"], 2), (&result["ip6"], 1)] {
                    only(single, address)?;
                    every(&single["routes"], count, route)?;
                }
            } else {
                every(&result["interfaces"], 2, interface)?;
                every(&result["ips"], 2, address)?;
                every(&result["routes"], 3, route)?;
            }
            add.verb("DEL").execute(&host)?.silent()?;
            check(held(&host).is_empty(), || format!("{asked}: {:?}", held(&host)))?;
        }
        Ok(())
    });
}

#[test]
fn n10_an_attachment_of_one_version_is_checked_and_deleted_in_another() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        for (made, unmade) in [("0.1.0", "1.1.0"), ("1.1.0", "0.1.0"), ("0.4.0", "1.0.0"), ("1.0.0", "0.3.1")] {
            let add = Call::new("ADD", "p1", &path, &alone(made));
            let mut result = add.execute(&host)?.result()?;
            if (made, unmade) == ("0.4.0", "1.0.0") {
                // A runtime converts the result that it has kept.
                result["cniVersion"] = unmade.into();
                let check_it = changed(&alone(unmade), "/prevResult", result);
                Call::new("CHECK", "p1", &path, &check_it).execute(&host)?.silent()?;
            }
            Call::new("DEL", "p1", &path, &alone(unmade)).execute(&host)?.silent()?;
            check(held(&host).is_empty(), || format!("{made} and {unmade}: {:?}", held(&host)))?;
        }
        Ok(())
    });
}

#[test]
fn h10_h11_n8_n9_r15_r16_r17_r19_r24_results_of_earlier_plugins_are_kept_as_they_were() {
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        scene(1, |lab| {
            let (host, _, path) = bare(lab, "p1")?;
            let earlier = json!({
                "cniVersion": version,
                "interfaces": [{"name": "br7", "mac": "02:00:00:00:00:07"}, {"name": "net7", "sandbox": "/run/netns/other"}],
                "ips": [
                    {"address": "192.0.2.7/24", "interface": 0},
                    {"address": "192.0.2.8/24", "gateway": "192.0.2.1"},
                    {"address": "2001:db8::8/64", "interface": -1},
                ],
                "routes": [{"dst": "198.51.100.0/24"}],
                "dns": {"nameservers": ["192.0.2.53"]},
            });
            let sparse = [
                json!({"cniVersion": version}),
                json!({"cniVersion": version, "ips": [{"address": "192.0.2.7/24"}], "routes": null, "dns": {}}),
                json!({"interfaces": null, "ips": null, "routes": []}),
            ];
            for previous in [vec![earlier.clone()], sparse.to_vec()].concat() {
                let configuration = changed(&alone(version), "/prevResult", previous.clone());
                let add = Call::new("ADD", "p1", &path, &configuration);
                let result = add.execute(&host)?.result().map_err(|why| format!("{previous}: {why}"))?;
                let length = |value: &Value| value.as_array().map_or(0, Vec::len);
                for (list, own) in [("interfaces", 2), ("ips", 2), ("routes", 3)] {
                    let before = previous[list].as_array().cloned().unwrap_or_default();
                    let kept = &result[list].as_array().ok_or_else(|| result.to_string())?[..before.len()];
                    check(kept == before, || format!("{list} of {previous} in {result}"))?;
                    check(length(&result[list]) == before.len() + own, || format!("{list}: {result}"))?;
                }
                // The host's end, then the pod's; addresses of the pod's end, IPv4 first.
                let place = length(&previous["interfaces"]);
                let own = &result["interfaces"].as_array().ok_or("none")?[place..];
                check(own[0].get("sandbox").is_none() && own[1]["name"] == "eth0", || format!("{own:?}"))?;
                let own = &result["ips"].as_array().ok_or("none")?[length(&previous["ips"])..];
                check(own.iter().all(|ip| ip["interface"] == json!(place + 1)), || format!("{own:?}"))?;
                check(own[0]["address"].as_str().is_some_and(|text| text.contains('.')), || format!("{own:?}"))?;
                let mut names = field(&result["interfaces"], "name");
                names.sort();
                names.dedup();
                check(names.len() == place + 2 && !names.contains(&"lo".into()), || format!("{names:?}"))?;
                if previous.get("dns").is_some_and(|dns| *dns != json!({})) {
                    check(result["dns"] == previous["dns"], || result.to_string())?;
                }
                add.verb("DEL").execute(&host)?.silent()?;
            }
            Ok(())
        });
    }
}

#[test]
fn r25_b11_b12_b13_the_result_agrees_with_the_kernel() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let mut configuration = alone("1.1.0");
        configuration["ipam"]["routes"] =
            json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.0.0.0/8", "priority": 50}]);
        let result = Call::new("ADD", "p1", &path, &configuration).execute(&host)?.result()?;
        for (end, place, name) in [(&host, 0, host_device(&result)), (&pod, 1, "eth0".to_owned())] {
            let (said, link) = (&result["interfaces"][place], &look(end, "ip", &["-j", "link", "show", &name])?[0]);
            let fields = [("name", "ifname"), ("mac", "address"), ("mtu", "mtu")];
            check(fields.iter().all(|(ours, theirs)| said[ours] == link[theirs]), || format!("{said} and {link}"))?;
            check(link["operstate"] == "UP", || link.to_string())?;
        }
        let found = look(&pod, "ip", &["-j", "address", "show", "eth0"])?[0]["addr_info"].clone();
        let global: Vec<_> =
            found.as_array().into_iter().flatten().filter(|entry| entry["scope"] == "global").collect();
        let mut kernel: Vec<_> = global
            .iter()
            .map(|entry| format!("{}/{}", entry["local"].as_str().unwrap_or_default(), entry["prefixlen"]))
            .collect();
        let mut said = field(&result["ips"], "address");
        kernel.sort();
        said.sort();
        check(said == kernel, || format!("addresses {said:?} and {kernel:?}"))?;

        let mut kernel = Vec::new();
        for family in ["-4", "-6"] {
            let routes = look(&pod, "ip", &[family, "-j", "route", "show", "dev", "eth0"])?;
            let learnt = |route: &&Value| route["protocol"] != "kernel";
            kernel.extend(routes.as_array().into_iter().flatten().filter(learnt).map(|route| {
                let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
                let metric = route["metric"].as_u64().filter(|_| family == "-4").unwrap_or_default();
                (text("dst").replace("default", "every"), text("gateway"), metric)
            }));
        }
        let said = result["routes"].as_array().into_iter().flatten().map(|route| {
            let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
            let metric = route["priority"].as_u64().unwrap_or_default();
            let destination = text("dst").replace("0.0.0.0/0", "every").replace("::/0", "every");
            (destination.trim_end_matches("/32").to_owned(), text("gw"), metric)
        });
        let (mut said, mut kernel) = (said.collect::<Vec<_>>(), kernel);
        said.sort();
        kernel.sort();
        check(said == kernel, || format!("routes {said:?} and {kernel:?}"))
    });
}

#[test]
fn x3_x5_x6_x8_x9_b24_an_error_is_one_object_with_one_line_and_a_defined_code() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        add.execute(&host)?.result()?;
        let full =
            changed(&alone("1.0.0"), "/ipam/ranges", json!([[{"subnet": "10.7.0.0/30", "rangeEnd": "10.7.0.2"}]]));
        let long = "y".repeat(4000);
        let calls = [
            ("the same again", add.clone(), "eth0 of container p1"),
            ("no namespace", add.clone().with("CNI_NETNS", "/nowhere").with("CNI_CONTAINERID", "p2"), "/nowhere"),
            ("an interface that is there", add.clone().with("CNI_CONTAINERID", "p2"), "eth0"),
            ("a full range", add.clone().configured(&full).interface("net1"), "10.7.0.0/30"),
            ("a long value", add.clone().configured(&changed(&alone("1.0.0"), "/mtu", json!(long))), "mtu"),
            ("a long name", add.clone().configured(&changed(&alone("1.0.0"), "/name", json!(long))), "network name"),
            ("a version of tomorrow", add.clone().configured(&alone("2.0.0")), "incompatible CNI versions"),
            ("arguments", add.clone().with("CNI_ARGS", "COLOUR=green"), "COLOUR"),
            ("CHECK of nothing", add.clone().verb("CHECK"), "prevResult"),
            ("GC of yesterday", add.clone().verb("GC"), "does not allow GC"),
        ];
        for (what, call, text) in calls {
            let answer = call.execute(&host)?;
            let (code, message) = answer.failure().map_err(|why| format!("{what}: {why}"))?;
            check(message.contains(text), || format!("{what}: {message:?} does not name {text}"))?;
            // Reserved by the specification, or of STATUS alone, or "there is nothing to clean up".
            let allowed = [1, 2, 4, 5, 6, 7, 8, 11].contains(&code) || code >= 100;
            check(allowed, || format!("{what}: code {code}"))?;
            let lines = answer.output.lines().count();
            check(lines == 1 && message.len() < 1024 && answer.output.len() < 2048, || {
                format!("{what}: {}", answer.output)
            })?;
            check(!message.contains('\n'), || message.clone())?;
        }
        Ok(())
    });
}

#[test]
fn x12_t7_a_result_that_cannot_be_written_undoes_the_add() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        add.execute(&host)?.result()?;
        add.clone().verb("DEL").execute(&host)?.silent()?;
        let before = snapshot(&host, &[&pod])?;
        for (what, call) in [
            ("a full disk", add.clone().by("exec \"$0\" >/dev/full")),
            ("a runtime that ended", add.clone().drop_output()),
        ] {
            let answer = call.execute(&host)?;
            check(answer.code == Some(1), || format!("{what}: {answer:?}"))?;
            check(answer.log.contains("write the answer"), || format!("{what}: {answer:?}"))?;
            same(what, &before, &snapshot(&host, &[&pod])?)?;
        }
        Ok(())
    });
}
