//! The plugin as the protocol sees it: its streams, its environment, what it needs and what it does not need, the shape of
//! what it says.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use podwire_tests::lab::runtime::Call;
use serde_json::{Value, json};

use crate::attachment::{addresses, changed, fails, outer, world};
use crate::expect::{Outcome, check, field, json as look, same, scene};
use crate::plugin::{alone, bare, held};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A call of the life of a pod.
const VERBS: [&str; 5] = ["ADD", "CHECK", "GC", "STATUS", "DEL"];

/// The configuration for a verb of a pod's life, once ADD has answered.
fn of_verb(verb: &str, configuration: &Value, result: &Value, container: &str, interface: &str) -> Value {
    let mut configuration = configuration.clone();
    match verb {
        "CHECK" => configuration["prevResult"] = result.clone(),
        "GC" => {
            configuration["cni.dev/valid-attachments"] = json!([{"containerID": container, "ifname": interface}]);
        }
        _ => {}
    }
    configuration
}

#[test]
fn v6_v7_v9_version_waits_for_nobody() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        let mut call = Call::new("VERSION", "", Path::new(""), &json!({"cniVersion": "1.1.0"}));
        call.environment = vec![("CNI_COMMAND", "VERSION".into())];
        let mut garbage = call.clone();
        garbage.input = "no json".into();
        let mut silent = call.clone();
        silent.input.clear();
        for (stdin, call) in [
            ("closed after the configuration", call.clone()),
            ("open after the configuration", call.clone().keep_input_open()),
            ("open and empty", silent.keep_input_open()),
            ("garbage", garbage.clone()),
            ("open after garbage", garbage.keep_input_open()),
            ("/dev/null", call.clone().by("exec \"$0\" </dev/null")),
            ("no descriptor", call.clone().by("exec \"$0\" <&-")),
            ("a directory", call.by("exec \"$0\" </")),
        ] {
            let answer = call.execute(&host)?;
            let versions = answer.result()?;
            let right = versions["cniVersion"] == "1.1.0" && versions["supportedVersions"] == json!(VERSIONS);
            check(right && answer.log.is_empty(), || format!("stdin {stdin}: {answer:?}"))?;
            check(answer.took < Duration::from_secs(1), || format!("stdin {stdin}: took {:?}", answer.took))?;
        }
        Ok(())
    });
}

#[test]
fn v10_version_starts_no_other_process_and_is_quick() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        let call = Call::new("VERSION", "", Path::new(""), &json!({"cniVersion": "1.1.0"}));
        // In a world in which the shell is the first process and the plugin the second, the next one is the third,
        // unless the plugin has started a process or a thread.
        let count = "exec unshare --pid --fork /bin/sh -c '\"$0\" >/dev/null; /bin/sh -c \"echo \\$\\$\"; :' \"$0\"";
        let next = call.clone().by(count).execute(&host)?;
        check(next.output == "3\n", || format!("{next:?}"))?;
        let took = (0..5).map(|_| Ok(call.execute(&host)?.took)).collect::<Outcome<Vec<_>>>()?;
        check(took.iter().any(|took| *took < Duration::from_millis(100)), || format!("{took:?}"))
    });
}

#[test]
fn v8_version_needs_no_state_no_lock_and_no_privilege() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        Call::new("ADD", "p1", &path, &alone("1.1.0")).execute(&host)?.result()?;
        let lock = host.enter(|| File::open("/run/podwire/net/lock").unwrap());
        let _held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.to_string())?;
        let poor = host.apart(|| {
            for place in ["/run/podwire", "/sys", "/usr/sbin"] {
                let flags = MsFlags::MS_RDONLY;
                mount(Some("tmpfs"), place, Some("tmpfs"), flags, None::<&str>).map_err(|errno| errno.to_string())?;
            }
            Ok(())
        })?;
        let before = world(&host, &[&pod])?;
        let call = Call::new("VERSION", "", Path::new(""), &json!({"cniVersion": "1.1.0"}));
        let without_privilege = "exec setpriv --bounding-set=-all --inh-caps=-all \"$0\"";
        for call in [call.clone(), call.by(without_privilege)] {
            for host in [&host, &poor] {
                let answer = call.execute(host)?;
                check(answer.took < Duration::from_secs(1), || format!("took {:?}", answer.took))?;
                check(answer.result()?["supportedVersions"] == json!(VERSIONS), || format!("{answer:?}"))?;
            }
        }
        same("VERSION", &before, &world(&host, &[&pod])?)
    });
}

#[test]
fn v12_e26_a_program_that_is_executed_to_see_what_it_is_says_its_version_first() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let mut nothing = Call::new("", "", Path::new(""), &Value::Null).by("exec \"$0\" </dev/null");
        nothing.environment.clear();
        let others = Call::new("ADD", "p1", &path, &alone("1.0.0")).without("CNI_COMMAND");
        for call in [nothing, others] {
            let answer = call.execute(&host)?;
            check(answer.code == Some(0) && answer.took < Duration::from_secs(3), || format!("{answer:?}"))?;
            let said = answer.output.clone() + &answer.log;
            let numbers = |word: &&str| {
                let parts: Vec<_> = word.trim_start_matches('v').split('.').collect();
                parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
            };
            check(said.split_whitespace().find(numbers) == Some("v0.1.0"), || format!("{answer:?}"))?;
        }
        check(held(&host).is_empty(), || "an ADD without a verb did something".into())
    });
}

#[test]
fn e4_e5_e8_e24_e25_h5_l15_l16_x8_a_life_needs_no_more_than_the_protocol_asks_for() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let configuration = alone("1.1.0");
        let named = |call: Call, verb: &str| match verb {
            "GC" | "STATUS" => {
                ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].iter().fold(call, |call, name| call.with(name, ""))
            }
            _ => call,
        };
        let unnamed = |call: Call, verb: &str| match verb {
            "GC" | "STATUS" => {
                ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].iter().fold(call, |call, name| call.without(name))
            }
            _ => call,
        };
        type Change<'a> = (&'a str, Box<dyn Fn(Call, &str) -> Call + 'a>);
        let changes: [Change<'_>; 6] = [
            ("all there is", Box::new(|call, _| call)),
            ("no CNI_PATH", Box::new(|call, _| call.without("CNI_PATH"))),
            ("an empty CNI_PATH", Box::new(|call, _| call.with("CNI_PATH", ""))),
            ("no CNI_ARGS", Box::new(|call, verb| unnamed(call.without("CNI_ARGS"), verb))),
            ("empty CNI_ARGS", Box::new(|call, verb| named(call.with("CNI_ARGS", ""), verb))),
            (
                "more than that",
                Box::new(|call, _| {
                    call.with("TRACEPARENT", "00-x").with("CNI_COLOUR", "green").with("HOME", "/nowhere")
                }),
            ),
        ];
        for (what, change) in changes {
            let mut result = Value::Null;
            for verb in VERBS {
                let call = Call::new(verb, "p1", &path, &of_verb(verb, &configuration, &result, "p1", "eth0"));
                let answer = change(call, verb).execute(&host)?;
                let context = |why: String| format!("{verb} with {what}: {why}");
                if verb == "ADD" {
                    // One object and the end of its line; nothing for the log.
                    result = answer.result().map_err(context)?;
                    check(answer.output == format!("{result}\n") && answer.log.is_empty(), || {
                        format!("{what}: {answer:?}")
                    })?;
                } else {
                    answer.silent().map_err(context)?;
                }
            }
            check(held(&host).is_empty(), || format!("with {what}: {:?}", held(&host)))?;
            let links = field(&look(&pod, "ip", &["-j", "link"])?, "ifname");
            check(links == ["lo"], || format!("with {what}: {links:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn e10_container_ids_of_every_runtime_have_devices_and_records_of_their_own() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let hex = "0123456789abcdef".repeat(4);
        let ids = [
            hex.clone(),
            "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            format!("k8s.io-{hex}"),
            "cnitool-0123456789abcdef0123".into(),
            format!("{}a", "k".repeat(252)),
            format!("{}b", "k".repeat(252)),
        ];
        let mut devices = std::collections::BTreeSet::new();
        let mut calls = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            let (_, path) = host.pod(&format!("p{number}"))?;
            let add = Call::new("ADD", id, &path, &alone("1.0.0"));
            let result = add.execute(&host)?.result()?;
            check(outer(&result).len() <= 15, || result.to_string())?;
            devices.insert(outer(&result));
            calls.push(add);
        }
        check(devices.len() == ids.len(), || format!("{devices:?}"))?;
        check(held(&host).len() == 3 * ids.len(), || format!("{:?}", held(&host)))?;
        check(held(&host).iter().all(|file| file.len() < 64), || format!("{:?}", held(&host)))?;
        for call in calls {
            call.verb("DEL").execute(&host)?.silent()?;
        }
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))
    });
}

#[test]
fn e16_the_settings_of_an_interface_with_a_dot_in_its_name_are_its_own() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0")).interface("eth0.100");
        let result = add.execute(&host)?.result()?;
        check(result["interfaces"][1]["name"] == "eth0.100", || result.to_string())?;
        for setting in ["accept_ra", "accept_dad"] {
            let found = pod.run("cat", &[&format!("/proc/sys/net/ipv6/conf/eth0.100/{setting}")])?;
            check(found == "0", || format!("{setting} is {found}"))?;
        }
        add.verb("DEL").execute(&host)?.silent()
    });
}

#[test]
fn e17_a_name_that_cannot_be_one_is_told_before_anything_else() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        for verb in ["ADD", "DEL", "CHECK"] {
            for (name, value, text) in
                [("CNI_CONTAINERID", "../x", "invalid characters in containerID"), ("CNI_IFNAME", "a/b", "contains /")]
            {
                let mut call = Call::new(verb, "p1", Path::new(""), &Value::Null).keep_input_open();
                call.environment = vec![("CNI_COMMAND", verb.into()), (name, value.into())];
                call.input.clear();
                let answer = call.execute(&host)?;
                fails(&answer, 4, text)?;
                check(answer.took < Duration::from_secs(1), || format!("{verb} waited {:?} for stdin", answer.took))?;
            }
        }
        Ok(())
    });
}

#[test]
fn e20_the_own_namespace_is_taken_when_a_test_of_plugins_says_so() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        let own = Call::new("ADD", "own", Path::new("/proc/self/ns/net"), &alone("1.0.0")).interface("own0");
        for no in ["0", "", "yes"] {
            fails(&own.clone().with("CNI_NETNS_OVERRIDE", no).execute(&host)?, 8, "should not be the same")?;
        }
        for yes in ["1", "true", "TRUE"] {
            let add = own.clone().with("CNI_NETNS_OVERRIDE", yes);
            add.execute(&host)?.result()?;
            check(field(&look(&host, "ip", &["-j", "link"])?, "ifname").contains(&"own0".into()), || "no own0".into())?;
            add.verb("DEL").execute(&host)?.silent()?;
        }
        let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"] && held(&host).is_empty(), || format!("{links:?} {:?}", held(&host)))
    });
}

#[test]
fn e21_e22_e23_x6_a_namespace_is_one_by_whatever_path_and_nothing_else_is() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let name = path.display().to_string();
        let configuration = alone("1.0.0");
        // What the first ADD of a host makes for all.
        let warm = Call::new("ADD", "warm", &path, &configuration);
        warm.execute(&host)?.result()?;
        warm.verb("DEL").execute(&host)?.silent()?;

        host.run("touch", &["/run/netns/plain"])?;
        let before = world(&host, &[&pod])?;
        for wrong in ["/run/netns/nowhere", "/run/netns/plain", "/run/netns", "/proc/1/ns/mnt", "/dev/null"] {
            let add = Call::new("ADD", "p1", Path::new(wrong), &configuration);
            // Not 3, by which the runtime would be told that there is nothing to clean up.
            fails(&add.execute(&host)?, 8, "network namespace").map_err(|why| format!("{wrong}: {why}"))?;
        }
        same("what is no namespace", &before, &world(&host, &[&pod])?)?;

        let process = pod.start("sleep", Command::new("sleep").arg("100"))?;
        host.run("ln", &["-s", &name, "/run/link"])?;
        host.run("ln", &["-s", "/run/netns", "/run/name with spaces"])?;
        let of_process = format!("/proc/{}/ns/net", process.id());
        for right in
            [&of_process, &format!("/var{name}"), "/run/link", "/run/name with spaces/p1", "/run/netns/../netns/p1"]
        {
            let add = Call::new("ADD", "p1", Path::new(right), &configuration);
            let result = add.execute(&host)?.result().map_err(|why| format!("{right}: {why}"))?;
            check(result["interfaces"][1]["sandbox"] == *right, || format!("{right}: {result}"))?;
            add.verb("DEL").execute(&host)?.silent()?;
        }
        Ok(())
    });
}

#[test]
fn c3_c6_v13_a_configuration_is_read_and_judged_before_the_verb() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS", "RENAME"] {
            let call = Call::new(verb, "p1", &path, &alone("1.1.0"));
            fails(&call.clone().by("exec \"$0\" </").execute(&host)?, 5, "error reading from stdin: ")?;
            for (input, code) in [("", 6), ("x", 6), ("[]", 6), ("{}{}", 6), ("null", 7), ("{\"name\": \"a/b\"}", 7)] {
                let mut call = call.clone();
                call.input = input.into();
                let (found, message) = call.execute(&host)?.failure()?;
                check(found == code, || format!("{verb} {input}: {found} {message}"))?;
            }
        }
        fails(&Call::new("add", "p1", &path, &alone("1.1.0")).execute(&host)?, 4, "unknown CNI_COMMAND: add")?;
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))
    });
}

#[test]
fn c7_c8_c11_c16_c17_f1_f9_what_is_not_meant_for_podwire_changes_nothing() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let mut plain = alone("1.1.0");
        plain["ipam"]["ranges"] = json!([[{"subnet": "10.7.0.0/30"}]]);
        let mut noisy = plain.clone();
        noisy["type"] = "another".into();
        for (key, value) in [
            ("capabilities", json!({"portMappings": true, "colour": true})),
            ("plugins", json!([])),
            ("cniVersions", json!(["1.0.0", "7.0.0"])),
            ("disableCheck", json!(true)),
            ("disableGC", json!("false")),
            ("cni.dev/anything", json!({"a": [1]})),
            ("labels", json!({"deep": {"er": [null, 1.5, "é"]}})),
            ("args", json!({"cni": {"labels": [{"key": "x"}]}, "podman_options": {"x": 1}, "other": 7})),
            (
                "runtimeConfig",
                json!({
                    "portMappings": null, "ips": null, "mac": "", "bandwidth": null, "ipRanges": null, "aliases": {"net": ["a"]},
                    "dns": {"Servers": null, "Searches": null, "Options": null}, "cgroupPath": "/kubepods/x", "deviceID": "0000:00",
                    "infinibandGUID": "00:11", "io.kubernetes.cri.pod-annotations": null, "colour": "green",
                }),
            ),
            ("dns", Value::Null),
        ] {
            noisy[key] = value;
        }
        let mut empty = plain.clone();
        for key in
            ["runtimeConfig", "args", "capabilities", "prevResult", "cni.dev/valid-attachments", "dns", "ipMasq", "mtu"]
        {
            empty[key] = Value::Null;
        }
        let mut hollow = plain.clone();
        for key in ["runtimeConfig", "args", "capabilities"] {
            hollow[key] = json!({});
        }
        let mut expected = None;
        for (what, configuration) in [("plain", plain), ("noisy", noisy), ("empty", empty), ("hollow", hollow)] {
            let mut result = Value::Null;
            for verb in VERBS {
                let call = Call::new(verb, "p1", &path, &of_verb(verb, &configuration, &result, "p1", "eth0"));
                let found = call.execute(&host)?.result().map_err(|why| format!("{verb} of {what}: {why}"))?;
                if verb == "ADD" {
                    // Whoever leaves the size of packets out gets the node's.
                    let mut comparable = found.clone();
                    for place in [0, 1] {
                        comparable["interfaces"][place]["mtu"] = json!(0);
                    }
                    same(what, expected.get_or_insert_with(|| comparable.clone()), &comparable)?;
                    result = found;
                }
            }
        }
        // What podwire does understand and cannot do is an error.
        let wish = changed(&alone("1.1.0"), "/runtimeConfig", json!({"ips": ["192.0.2.1"]}));
        fails(&Call::new("ADD", "p1", &path, &wish).execute(&host)?, 104, "192.0.2.1")
    });
}

#[test]
fn c12_a_configuration_may_be_as_long_as_it_likes() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let annotation = "x".repeat(2 << 20);
        let mut long = alone("1.1.0");
        long["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {"a": annotation}});
        let mut chained = alone("1.1.0");
        let interface =
            |number: usize| json!({"name": format!("dummy{number}"), "mac": "02:00:00:00:00:01", "sandbox": "/x"});
        chained["prevResult"] = json!({
            "cniVersion": "1.1.0",
            "interfaces": (0..20_000).map(interface).collect::<Vec<_>>(),
        });
        for configuration in [&long, &chained] {
            let add = Call::new("ADD", "p1", &path, configuration);
            check(add.input.len() > 1 << 20, || format!("{} bytes are not long", add.input.len()))?;
            let result = add.execute(&host)?.result()?;
            add.clone().verb("VERSION").execute(&host)?.result()?;
            let check_it = changed(configuration, "/prevResult", result);
            add.clone().verb("CHECK").configured(&check_it).execute(&host)?.silent()?;
            add.verb("DEL").execute(&host)?.silent()?;
        }
        Ok(())
    });
}

#[test]
fn c18_the_last_of_two_keys_counts_and_escapes_are_read() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        let mut twice = add.clone();
        twice.input = twice.input.replace("\"name\":\"net\"", "\"name\":\"a/b\",\"name\":\"n\\u0065t\"");
        check(twice.input != add.input, || twice.input.clone())?;
        twice.execute(&host)?.result()?;
        // It is one and the same network.
        check(held(&host).len() == 3, || format!("{:?}", held(&host)))?;
        add.clone().verb("DEL").execute(&host)?.silent()?;
        let mut escape = add;
        escape.input = escape.input.replace("\"name\":\"net\"", "\"name\":\"..\\u002f..\\u002fetc\"");
        fails(&escape.execute(&host)?, 7, "invalid characters found in network name")
    });
}

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
fn n1_n2_r22_d22_every_version_is_answered_in_its_own_words() {
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
fn n10_an_attachment_of_one_version_is_checked_and_detached_in_another() {
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
fn h10_h11_n8_n9_r15_r16_r17_r19_r24_what_earlier_plugins_did_stays_as_they_said_it() {
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
fn r25_b11_b12_b13_the_result_is_what_the_kernel_has() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let mut configuration = alone("1.1.0");
        configuration["ipam"]["routes"] =
            json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.0.0.0/8", "priority": 50}]);
        let result = Call::new("ADD", "p1", &path, &configuration).execute(&host)?.result()?;
        for (end, place, name) in [(&host, 0, outer(&result)), (&pod, 1, "eth0".to_owned())] {
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
fn x3_x5_x6_x8_x9_b24_a_failure_is_one_object_of_one_line_with_a_code_of_the_list() {
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
fn x12_t7_an_answer_that_nobody_takes_undoes_what_it_told_of() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        add.execute(&host)?.result()?;
        add.clone().verb("DEL").execute(&host)?.silent()?;
        let before = world(&host, &[&pod])?;
        for (what, call) in [
            ("a full disk", add.clone().by("exec \"$0\" >/dev/full")),
            ("a runtime that ended", add.clone().drop_output()),
        ] {
            let answer = call.execute(&host)?;
            check(answer.code == Some(1), || format!("{what}: {answer:?}"))?;
            check(answer.log.contains("write the answer"), || format!("{what}: {answer:?}"))?;
            same(what, &before, &world(&host, &[&pod])?)?;
        }
        Ok(())
    });
}

#[test]
fn l18_b21_few_descriptors_a_strict_mask_and_no_other_program_are_enough() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let call = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        let strict = "ulimit -n 64; umask 077; exec setsid --wait \"$0\"";
        for verb in VERBS {
            // The ledger is made by the first call.
            let configuration =
                if verb == "CHECK" { continue } else { of_verb(verb, &alone("1.1.0"), &Value::Null, "p1", "eth0") };
            call.clone().verb(verb).configured(&configuration).by(strict).execute(&host)?.result()?;
        }
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        let closed = "exec \"$0\" <&- >&- 2>&-";
        let version = call.clone().verb("VERSION").by(closed).execute(&host)?;
        check(version.code == Some(0), || format!("{version:?}"))?;

        let empty = host.apart(|| {
            for place in ["/usr/sbin", "/sbin", "/bin", "/usr/bin"] {
                let none = None::<&str>;
                let hidden = mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::MS_RDONLY, none);
                hidden.map_err(|errno| format!("{place}: {errno}"))?;
            }
            check(!Path::new("/bin/sh").exists(), || "there is a shell still".into())
        })?;
        let mut result = Value::Null;
        for verb in VERBS {
            let configuration = of_verb(verb, &alone("1.1.0"), &result, "p1", "eth0");
            let answer = call.clone().verb(verb).configured(&configuration).execute(&empty)?;
            let found = answer.result().map_err(|why| format!("{verb}: {why}"))?;
            if verb == "ADD" {
                check(addresses(&found)?.len() == 2, || found.to_string())?;
                result = found;
            }
        }
        Ok(())
    });
}
