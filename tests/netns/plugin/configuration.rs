//! The configuration as a runtime passes it on: read and validated before the verb, of any length, with keys of others.

use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{check, same, scene};
use serde_json::{Value, json};

use super::attachment::{changed, fails};
use super::protocol::{VERBS, of_verb};
use super::stage::{alone, bare, held};

#[test]
fn c3_c6_v13_the_configuration_is_validated_before_the_verb() {
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
fn c7_c8_c11_c16_c17_f1_f9_keys_that_are_not_meant_for_podwire_change_nothing() {
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
            ("annotations", json!({"deep": {"er": [null, 1.5, "é"]}})),
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
        let request = changed(&alone("1.1.0"), "/runtimeConfig", json!({"ips": ["192.0.2.1"]}));
        fails(&Call::new("ADD", "p1", &path, &request).execute(&host)?, 104, "192.0.2.1")
    });
}

#[test]
fn c12_a_configuration_may_be_of_any_length() {
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
fn c18_the_last_of_repeated_keys_counts_and_escapes_are_decoded() {
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
