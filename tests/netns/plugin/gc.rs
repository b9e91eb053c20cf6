//! GC: what the runtime does not know any more goes, with a record or without one, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, field, json as look, same, scene};
use serde_json::{Value, json};

use super::attachment::{addresses, changed, fails, host_device, snapshot, unchanged};
use super::stage::{alone, held};

/// A GC of network `net`, with the list of what is valid.
fn gc(valid: Value) -> Call {
    let configuration = changed(&alone("1.1.0"), "/cni.dev~1valid-attachments", valid.clone());
    let configuration = if valid == json!("absent") { alone("1.1.0") } else { configuration };
    let mut call = Call::new("GC", "", &PathBuf::new(), &configuration);
    call.environment = vec![("CNI_COMMAND", "GC".into()), ("CNI_PATH", "/opt/cni/bin".into())];
    call
}

fn valid(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(container, interface)| json!({"containerID": container, "ifname": interface})).collect()
}

/// Attaches a pod to a network; the pod, the name of its device on the host, its addresses.
fn attach(host: &Host, container: &str, interface: &str, network: &str) -> Outcome<(Host, String, Value)> {
    let (pod, path) = host.pod(&format!("{network}-{container}-{interface}"))?;
    let mut configuration = changed(&alone("1.1.0"), "/name", network.into());
    if network != "net" {
        configuration["ipam"]["ranges"] = json!([[{"subnet": "10.8.0.0/28"}]]);
    }
    let add = Call::new("ADD", container, &path, &configuration).interface(interface);
    let result = add.execute(host)?.result()?;
    Ok((pod, host_device(&result), result))
}

fn devices(host: &Host) -> Outcome<Vec<String>> {
    let mut devices = field(&look(host, "ip", &["-j", "link"])?, "ifname");
    devices.retain(|device| device.starts_with("pw"));
    devices.sort();
    Ok(devices)
}

fn sorted<const N: usize>(devices: [&String; N]) -> Vec<String> {
    let mut devices: Vec<_> = devices.into_iter().cloned().collect();
    devices.sort();
    devices
}

#[test]
fn g1_g4_g5_g7_g10_g15_stale_attachments_are_removed_and_valid_ones_stay_intact() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (pod, first, _) = attach(&host, "a", "eth0", "net")?;
        let before = snapshot(&host, &[&pod])?;
        attach(&host, "a", "net1", "net")?;
        let (gone, _, _) = attach(&host, "b", "eth0", "net")?;
        // One whose namespace nobody can find any more.
        drop(gone);
        host.remove_pod(&PathBuf::from("/run/netns/net-b-eth0"))?;
        gc(valid(&[("a", "eth0")])).execute(&host)?.silent()?;
        same("GC", &before, &snapshot(&host, &[&pod])?)?;
        unchanged("a second GC", &host, &[&pod], &gc(valid(&[("a", "eth0")])))?.silent()?;

        // A released address is assigned again, after all others.
        let (_, second, result) = attach(&host, "c", "eth0", "net")?;
        check(addresses(&result)?[0].to_string() == "10.7.0.5", || result.to_string())?;
        let (_, other, _) = attach(&host, "a", "eth0", "other")?;
        check(devices(&host)? == sorted([&first, &second, &other]), || format!("{:?}", devices(&host)))?;
        gc(json!([])).execute(&host)?.silent()?;
        check(devices(&host)? == sorted([&other]), || format!("{:?}", devices(&host)))?;
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        let mut given = Vec::new();
        for number in 0..13 {
            let (_, _, result) = attach(&host, &format!("d{number}"), "eth0", "net")?;
            given.push(addresses(&result)?[0].to_string());
        }
        let mut distinct = given.clone();
        distinct.sort();
        distinct.dedup();
        check(given[0] == "10.7.0.6" && distinct.len() == 13, || format!("{given:?}"))
    });
}

#[test]
fn g2_g3_g11_an_empty_list_removes_everything_and_a_missing_one_nothing() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        for (number, none) in [json!([]), Value::Null].into_iter().enumerate() {
            let (pod, _, _) = attach(&host, &format!("a{number}"), "eth0", "net")?;
            let absent = unchanged("GC that does not say", &host, &[&pod], &gc(json!("absent")))?;
            fails(&absent, 7, "cni.dev/valid-attachments is missing")?;
            let mut call = gc(none);
            for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
                call = call.with(name, "");
            }
            call.execute(&host)?.silent()?;
            check(devices(&host)?.is_empty() && held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        }
        // The key's other name.
        attach(&host, "b", "eth0", "net")?;
        let configuration = changed(&alone("1.1.0"), "/cni.dev~1attachments", json!([]));
        gc(json!([])).configured(&configuration).execute(&host)?.silent()?;
        check(devices(&host)?.is_empty(), || format!("{:?}", devices(&host)))
    });
}

#[test]
fn g6_d13_x11_what_cannot_be_removed_does_not_stop_the_rest() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        // A mount point cannot be removed: the record of the first stays, whatever is done.
        attach(&host, "a", "eth0", "net")?;
        let record = host.run("sh", &["-c", "echo /run/podwire/net/attachments/*"])?;
        host.run("mount", &["--bind", &record, &record])?;
        attach(&host, "b", "eth0", "net")?;
        attach(&host, "c", "eth0", "net")?;
        let answer = gc(json!([])).execute(&host)?;
        fails(&answer, 102, "1 of the attachments to net could not be removed")?;
        check(answer.output.contains("a eth0: ") && answer.output.contains(&record), || answer.output.clone())?;
        check(devices(&host)?.is_empty(), || format!("{:?}", devices(&host)))?;
        let name = record.rsplit('/').next().unwrap_or_default().to_owned();
        check(held(&host) == [name], || format!("{:?}", held(&host)))?;
        // DEL does as much as it can, and says that it was not all, in words that no runtime takes for "all is gone".
        let del = Call::new("DEL", "a", &PathBuf::new(), &alone("1.1.0"));
        let (_, message) = del.execute(&host)?.failure()?;
        let lowered = message.to_lowercase();
        let mistaken = ["not found", "no such file"].iter().any(|words| lowered.contains(words));
        check(message.contains(&record) && !mistaken, || message.clone())?;
        host.run("umount", &[&record])?;
        gc(json!([])).execute(&host)?.silent()?;
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        del.execute(&host)?.silent()
    });
}

#[test]
fn g7_gc_of_an_unknown_network_is_no_error() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        unchanged("GC of nothing", &host, &[], &gc(json!([])))?.silent()?;
        check(!host.enter(|| std::path::Path::new("/run/podwire").exists()), || "GC has made a ledger".into())
    });
}

#[test]
fn g8_i12_leftovers_without_a_record_are_removed_too() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (pod, first, _) = attach(&host, "a", "eth0", "net")?;
        let (other_pod, other, _) = attach(&host, "a", "eth0", "other")?;
        let before = snapshot(&host, &[&pod, &other_pod])?;
        // A device, routes and claims whose record has gone; a claim of nobody; what a killed process was writing; and
        // devices that only look like ours.
        attach(&host, "b", "eth0", "net")?;
        let (_, alike, _) = attach(&host, "c", "eth0", "net")?;
        let damage = format!(
            "cd /run/podwire/net; mv attachments ../kept; mkdir attachments
             for record in ../kept/*; do grep -q '\"container\":\"a\"' $record && mv $record attachments; done; rm -r ../kept
             ln -s ../attachments/0123456789abcdef claims/10.7.0.14; echo half > writing
             ip link set {alike} alias 'net2: default/c'; ip link add pwforeign type bridge; ip link set pwforeign alias 'net: x'"
        );
        host.run("sh", &["-ec", &damage])?;
        check(held(&host).len() == 8, || format!("{:?}", held(&host)))?;
        gc(valid(&[("a", "eth0")])).execute(&host)?.silent()?;
        check(devices(&host)? == sorted([&first, &other, &alike, &"pwforeign".into()]), || {
            format!("{:?}", devices(&host))
        })?;
        host.run("ip", &["link", "delete", "pwforeign"])?;
        host.run("ip", &["link", "delete", &alike])?;
        same("GC", &before, &snapshot(&host, &[&pod, &other_pod])?)
    });
}

#[test]
fn g9_a_valid_attachment_survives_a_damaged_record() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (pod, _, _) = attach(&host, "a", "eth0", "net")?;
        host.run("sh", &["-c", "for record in /run/podwire/net/attachments/*; do echo garbage > $record; done"])?;
        unchanged("GC", &host, &[&pod], &gc(valid(&[("a", "eth0")])))?.silent()?;
        // Its addresses are given to nobody.
        for number in 0..12 {
            let (_, _, result) = attach(&host, &format!("b{number}"), "eth0", "net")?;
            check(addresses(&result)?[0].to_string() != "10.7.0.2", || result.to_string())?;
        }
        // And when it is not valid any more it goes, by its name and its claims.
        let others: Vec<_> = (0..12).map(|number| (format!("b{number}"), "eth0")).collect();
        let others: Vec<_> = others.iter().map(|(container, interface)| (container.as_str(), *interface)).collect();
        gc(valid(&others)).execute(&host)?.silent()?;
        check(devices(&host)?.len() == 12 && held(&host).len() == 36, || format!("{:?}", held(&host)))
    });
}

#[test]
fn g12_g14_a_long_and_odd_list_is_read_quickly() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (pod, _, _) = attach(&host, "a", "eth0", "net")?;
        attach(&host, "b", "eth0", "net")?;
        let mut list: Vec<Value> =
            (0..100_000).map(|number| json!({"containerID": format!("gone{number}"), "ifname": "eth0"})).collect();
        list.extend([
            json!({"containerID": "a", "ifname": "eth0", "colour": "green"}),
            json!({"containerID": "a", "ifname": "eth0"}),
            json!({"containerID": "b", "ifname": ""}),
            json!({"containerID": "", "ifname": "eth0"}),
            json!({"containerID": 7, "ifname": null}),
            json!({}),
            json!("a"),
            Value::Null,
        ]);
        // As libcni does it: a DEL for what it remembers, then GC, which finds nothing.
        Call::new("DEL", "b", &PathBuf::new(), &alone("1.1.0")).execute(&host)?.silent()?;
        let answer = unchanged("GC", &host, &[&pod], &gc(list.into()))?;
        answer.silent()?;
        check(answer.took < Duration::from_secs(10), || format!("took {:?}", answer.took))?;
        check(held(&host).len() == 3, || format!("{:?}", held(&host)))
    });
}

#[test]
fn g16_t4_leftovers_of_a_killed_add_are_cleaned_up_by_del_alone() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        attach(&host, "warm", "eth0", "net")?;
        gc(json!([])).execute(&host)?.silent()?;
        let before = snapshot(&host, &[])?;
        attach(&host, "a", "eth0", "net")?;
        host.run("sh", &["-c", "mv /run/podwire/net/attachments/* /run/podwire/net/pending"])?;
        for _ in 0..2 {
            Call::new("DEL", "a", &PathBuf::new(), &alone("1.1.0")).execute(&host)?.silent()?;
        }
        same("DEL", &before, &snapshot(&host, &[])?)
    });
}
