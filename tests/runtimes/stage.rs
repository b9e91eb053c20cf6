//! How a scene of a runtime is set, and how it looks at what the plugin holds.

use std::net::IpAddr;
use std::path::Path;

use podwire_tests::lab::containerd::Containerd;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::machine::Machine;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, field, json as look, same, scene, state};
use podwire_tests::lab::{SOON, eventually, image, node};
use serde_json::{Value, json};

/// Plays a scene on a node with podwired, whose conflist the runtime reads, and a machine on it.
#[track_caller]
pub(crate) fn node(body: impl FnOnce(Machine) -> Outcome) {
    cluster(1, |lab| body(Machine::new(&lab.nodes[0].host)?));
}

/// Plays a scene with containerd on a node with podwired. When it fails, containerd's last words are part of the why.
#[track_caller]
pub(crate) fn containerd(body: impl FnOnce(&mut Containerd) -> Outcome) {
    node(|machine| explained(machine, body));
}

/// The same, with the host outside of the cluster to look from.
#[track_caller]
pub(crate) fn containerd_from_outside(body: impl FnOnce(&mut Containerd, &Host) -> Outcome) {
    cluster(1, |lab| {
        let outside = lab.outside.clone();
        explained(Machine::new(&lab.nodes[0].host)?, |containerd| body(containerd, &outside))
    });
}

/// The same without podwired: the conflist is the scene's own, of one plugin.
#[track_caller]
pub(crate) fn containerd_with(plugin: &Value, body: impl FnOnce(&mut Containerd) -> Outcome) {
    scene(1, |lab| {
        let host = &lab.nodes[0].host;
        write_conflist(host, plugin)?;
        explained(Machine::new(host)?, body)
    });
}

pub(crate) fn explained(machine: Machine, body: impl FnOnce(&mut Containerd) -> Outcome) -> Outcome {
    let mut containerd = Containerd::start(machine)?;
    body(&mut containerd).map_err(|why| format!("{why}\n{}", containerd.last_words()))
}

/// A conflist of one plugin, named like podwired's.
pub(crate) fn write_conflist(host: &Host, plugin: &Value) -> Outcome {
    let conflist = json!({"cniVersion": "1.0.0", "name": "podwire", "plugins": [plugin]});
    let write = || {
        std::fs::create_dir_all(node::CONFLISTS)?;
        std::fs::write(Path::new(node::CONFLISTS).join("10-podwire.conflist"), conflist.to_string())
    };
    host.enter(write).map_err(|error| format!("write the conflist: {error}"))
}

/// The ledger's records, claims and locks.
pub(crate) fn held(host: &Host) -> Vec<String> {
    let list = |directory: &str| {
        let entries = std::fs::read_dir(Path::new("/run/podwire/podwire").join(directory)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    host.enter(|| [list("attachments"), list("claims"), list("turns")].concat())
}

/// That a node is as it was, and holds nothing: neither the plugin an address nor the runtime a namespace. The sets and
/// chains that the first host port makes for all stay, with no element in them.
pub(crate) fn as_before(before: &Value, host: &Host) -> Outcome {
    let mut now = state(host)?;
    if let Some(table) = now["nftables"]["nftables"].as_array_mut() {
        let stays = |entry: &Value| {
            ["set", "map", "chain", "rule"]
                .iter()
                .any(|kind| entry[kind]["table"] == "podwire" && entry[kind]["elem"].is_null())
        };
        let new =
            |entry: &Value| before["nftables"]["nftables"].as_array().is_none_or(|before| !before.contains(entry));
        table.retain(|entry| !(new(entry) && stays(entry)));
    }
    same("the node", before, &now)?;
    check(held(host).is_empty(), || format!("still held: {:?}", held(host)))?;
    let namespaces = host.enter(|| std::fs::read_dir("/run/netns").into_iter().flatten().count());
    check(namespaces == 0, || format!("{namespaces} files in /run/netns"))
}

/// The devices of pods on a node, as `ip -j -d link` has them.
pub(crate) fn pod_devices(host: &Host) -> Outcome<Vec<Value>> {
    let links = look(host, "ip", &["-j", "-d", "link"])?;
    let pods =
        links.as_array().into_iter().flatten().filter(|link| field(&json!([link]), "ifname")[0].starts_with("pw"));
    Ok(pods.cloned().collect())
}

/// That the server at some addresses answers, and sees the one who asks as `source` (in both families), once it has
/// started.
pub(crate) fn answers(from: &Host, source: impl Fn(IpAddr) -> Option<IpAddr>, to: &[IpAddr]) -> Outcome {
    check(to.len() == FAMILIES.len(), || format!("{to:?} are not an address of each family"))?;
    for address in to {
        let seen = eventually(SOON, || image::ask(from, *address))?;
        let source = source(*address);
        let right = source.is_none_or(|source| source == seen);
        check(right, || format!("{address} has seen {} as {seen}, not {source:?}", from.name))?;
    }
    Ok(())
}
