//! podman with its CNI backend: it reads the conflists of a directory by name, converts the answer to its own words,
//! and shows them.

use std::net::IpAddr;

use podwire_tests::lab::podman::Podman;
use podwire_tests::lab::scene::{check, state};
use serde_json::json;

use crate::stage::{answers, as_before, node, pod_devices};

#[test]
fn podman_a_container_has_the_address_that_podman_shows() {
    node(|machine| {
        let podman = Podman::new(machine, "podwire")?;
        let host = podman.machine.host.clone();
        let before = state(&host)?;
        podman.run_server("web", &["--network", "podwire"])?;
        podman.run_server("client", &["--network", "podwire"])?;
        let web = podman.inspect("web")?;
        let network = &web["NetworkSettings"]["Networks"]["podwire"];
        let mac = network["MacAddress"].clone();
        let expected = json!({
            "IPAddress": "10.244.1.2", "IPPrefixLen": 32, "Gateway": "169.254.1.1",
            "GlobalIPv6Address": "fd00:10:244:1::2", "GlobalIPv6PrefixLen": 128, "IPv6Gateway": "fe80::1",
            "MacAddress": mac,
        });
        for (key, value) in expected.as_object().into_iter().flatten() {
            check(network[key] == *value, || format!("podman shows {key} as {}, not {value}", network[key]))?;
        }
        let inside = podman.run(&["exec", "web", "ip", "address", "show", "eth0"])?;
        for text in ["inet 10.244.1.2/32 ", "inet6 fd00:10:244:1::2/128 ", mac.as_str().unwrap_or("a MAC address")] {
            check(inside.contains(text), || format!("no {text} in the container: {inside}"))?;
        }
        let addresses: [IpAddr; 2] = ["10.244.1.2".parse().unwrap(), "fd00:10:244:1::2".parse().unwrap()];
        answers(&host, |_| None, &addresses)?;
        let netns = podman.inspect("client")?["NetworkSettings"]["SandboxKey"].clone();
        let client = host.found_pod("client", netns.as_str().unwrap_or_default().as_ref())?;
        let client_addresses: [IpAddr; 2] = ["10.244.1.3".parse().unwrap(), "fd00:10:244:1::3".parse().unwrap()];
        let own = |to: IpAddr| client_addresses.into_iter().find(|own| own.is_ipv4() == to.is_ipv4());
        answers(&client, own, &addresses)?;
        drop(client);
        let mut aliases: Vec<_> = pod_devices(&host)?.iter().map(|link| link["ifalias"].to_string()).collect();
        aliases.sort();
        check(aliases == ["\"podwire: client\"", "\"podwire: web\""], || format!("aliases {aliases:?}"))?;
        let running = podman.run(&["ps", "--format", "{{.Names}} {{.Networks}}"])?;
        check(running.lines().count() == 2 && running.contains("web podwire"), || running.clone())?;
        // A container that is started again is attached anew, by the same id and name of the interface.
        podman.run(&["restart", "--time", "0", "web"])?;
        answers(&host, |_| None, &["10.244.1.4".parse().unwrap(), "fd00:10:244:1::4".parse().unwrap()])?;
        podman.run(&["rm", "--force", "--time", "0", "web", "client"])?;
        as_before(&before, &host)
    });
}
