//! The plugin as the protocol sees it: its environment, what it needs and what it does not need.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{check, field, json as look, same, scene};
use serde_json::{Value, json};

use super::attachment::{addresses, fails, host_device, snapshot};
use super::stage::{alone, bare, held};

/// The configuration for a verb of a pod's life, once ADD has answered.
pub(crate) fn of_verb(verb: &str, configuration: &Value, result: &Value, container: &str, interface: &str) -> Value {
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

/// A call of the life of a pod.
pub(crate) const VERBS: [&str; 5] = ["ADD", "CHECK", "GC", "STATUS", "DEL"];

pub(crate) const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn e4_e5_e8_e24_e25_h5_l15_l16_x8_an_attachments_life_needs_only_what_the_protocol_demands() {
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
fn e10_container_ids_of_every_runtime_get_distinct_devices_and_records() {
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
            check(host_device(&result).len() <= 15, || result.to_string())?;
            devices.insert(host_device(&result));
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
fn e16_an_interface_with_a_dot_in_its_name_has_its_own_sysctls() {
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
fn e17_an_invalid_name_is_reported_before_anything_else() {
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
fn e20_the_plugins_own_namespace_is_accepted_with_the_override() {
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
fn e21_e22_e23_x6_any_path_to_a_namespace_is_accepted_and_nothing_else() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let name = path.display().to_string();
        let configuration = alone("1.0.0");
        // What the first ADD of a host makes for all.
        let warm = Call::new("ADD", "warm", &path, &configuration);
        warm.execute(&host)?.result()?;
        warm.verb("DEL").execute(&host)?.silent()?;

        host.run("touch", &["/run/netns/plain"])?;
        let before = snapshot(&host, &[&pod])?;
        for wrong in ["/run/netns/nowhere", "/run/netns/plain", "/run/netns", "/proc/1/ns/mnt", "/dev/null"] {
            let add = Call::new("ADD", "p1", Path::new(wrong), &configuration);
            // Not 3, by which the runtime would learn that there is nothing to clean up.
            fails(&add.execute(&host)?, 8, "network namespace").map_err(|why| format!("{wrong}: {why}"))?;
        }
        // A mount that does not propagate to here looks like this.
        let unseen = Call::new("ADD", "p1", Path::new("/run/netns/plain"), &configuration).execute(&host)?;
        let why = "open network namespace /run/netns/plain: it is a plain file, and no namespace is mounted on it here";
        fails(&unseen, 8, why)?;
        fails(&unseen, 8, "does not propagate to this one; share the mount of /run/netns with the container runtime")?;
        same("what is no namespace", &before, &snapshot(&host, &[&pod])?)?;

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
fn l18_b21_few_descriptors_a_strict_umask_and_no_other_program_are_enough() {
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
