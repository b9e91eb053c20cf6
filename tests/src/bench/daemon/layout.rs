//! Two nodes with a pod each, joined by one of the ways that are compared.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::CONFLISTS;
use podwire_tests::lab::runtime::{self, Call};
use podwire_tests::lab::{self, UPLINK, wire};
use serde::Serialize;
use serde_json::Value;

use super::plan::{self, Entry};
use super::program::Podwired;

/// The VXLAN device of the flannel layout.
const FLANNEL: &str = "flannel.1";

/// A way that packets take between two nodes. A node that masquerades what leaves the cluster has packets tracked, which
/// costs more than all that the ways differ by, and a bridge costs as much: so each overlay is there as it is deployed,
/// flannel's with pods of our kind as well, and each alone, without nftables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layout {
    /// What podwired makes.
    Podwire,
    /// What podwired makes with `fast_path = false`.
    PodwireNoFastPath,
    /// A plain VXLAN device, and for each peer a route, a permanent neighbour and an FDB entry; masquerade by nftables, and
    /// pods on a bridge: as flannel sets it up.
    Flannel,
    /// The same, with pods as podwire attaches them.
    FlannelSamePods,
    /// What podwired makes, without its table of nftables, and so without the fast path.
    PodwireAlone,
    /// The same device and entries, without nftables, and pods as podwire attaches them.
    FlannelAlone,
    /// A route for each peer, without an overlay and without nftables.
    Plain,
}

impl Layout {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 7] = [
        Self::Podwire,
        Self::Flannel,
        Self::FlannelSamePods,
        Self::PodwireNoFastPath,
        Self::PodwireAlone,
        Self::FlannelAlone,
        Self::Plain,
    ];

    /// For humans.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Podwire => "podwire",
            Self::Flannel => "flannel as deployed",
            Self::FlannelSamePods => "flannel, podwire's pods",
            Self::PodwireNoFastPath => "podwire, no fast path",
            Self::PodwireAlone => "podwire's overlay alone",
            Self::FlannelAlone => "flannel layout alone",
            Self::Plain => "plain routes",
        }
    }

    /// The one of ours that is like this one in all but the way.
    pub(crate) fn ours(self) -> Self {
        match self {
            Self::Podwire | Self::PodwireNoFastPath | Self::Flannel | Self::FlannelSamePods => Self::Podwire,
            Self::PodwireAlone | Self::FlannelAlone | Self::Plain => Self::PodwireAlone,
        }
    }
}

/// Two nodes and their pods.
#[derive(Debug)]
pub(crate) struct Pair {
    /// How they are joined.
    pub(crate) layout: Layout,
    /// The pods.
    pub(crate) pods: [Host; 2],
    /// The pods' IPv4 addresses.
    pub(crate) addresses: [IpAddr; 2],
    _nodes: [Host; 2],
    _switch: Host,
    _daemons: Vec<Podwired>,
}

/// A host on an underlay of its own, and that underlay; nothing else is there.
///
/// # Errors
/// What was refused.
pub(crate) fn lonely(name: &str, number: u32, directory: &Path) -> Result<(Host, Host), String> {
    fs::create_dir_all(directory).map_err(|error| format!("create {}: {error}", directory.display()))?;
    let (switch, host) = (Host::new("switch", directory)?, Host::new(name, directory)?);
    wire::bridge(&switch, "underlay")?;
    wire::plug(&host, UPLINK, &switch, "underlay", &plan::on_underlay(number))?;
    Ok((switch, host))
}

impl Pair {
    /// Nodes 1 and 2 of a cluster with this many peers, of which the others do not exist. `configurations` are what the
    /// pods are attached by: podwired's own for all layouts; without them they are waited for.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) fn new(
        layout: Layout,
        peers: u32,
        podwired: &Path,
        shared: &Path,
        configurations: &mut Option<[Value; 2]>,
    ) -> Result<Self, String> {
        let directory = shared.join(layout.name().replace(' ', "-"));
        let (switch, first) = lonely("first", 1, &directory)?;
        let second = Host::new("second", &directory)?;
        wire::plug(&second, UPLINK, &switch, "underlay", &plan::on_underlay(2))?;
        let nodes = [first, second];
        let mut daemons = Vec::new();
        let entries: Vec<_> = (1..=peers + 1).map(Entry::of).collect();
        plan::write(&directory, &plan::text(&entries))?;
        for (number, node) in (1..).zip(&nodes) {
            let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
            node.run("sh", &["-c", forward])?;
            match layout {
                Layout::Podwire | Layout::PodwireNoFastPath | Layout::PodwireAlone => {
                    let fast_path = layout == Layout::Podwire;
                    let settings = format!("fast_path = {fast_path}\n");
                    let daemon = Podwired::start_with(podwired, node, number, &settings)?;
                    daemon.wait_for("ready: ")?;
                    daemons.push(daemon);
                }
                Layout::Flannel | Layout::FlannelSamePods | Layout::FlannelAlone => drop(flannel(node, number, peers)?),
                Layout::Plain => plain(node, number, peers)?,
            }
        }
        if configurations.is_none() {
            let [first, second] = &nodes;
            let own = [runtime::configuration(first, CONFLISTS)?, runtime::configuration(second, CONFLISTS)?];
            *configurations = Some(own);
        }
        for (number, node) in (1..).zip(&nodes) {
            match layout {
                Layout::Flannel | Layout::FlannelSamePods => masquerade(node, number)?,
                Layout::PodwireAlone => {
                    // Stopping takes nothing away; and nobody puts back what is taken away now.
                    daemons.clear();
                    node.run("nft", &["delete", "table", "inet", "podwire"])?;
                }
                _ => {}
            }
        }
        let mut configurations = configurations.clone().ok_or("no configuration")?;
        for configuration in &mut configurations {
            // Of no use to the others.
            configuration["fastPath"] = (layout == Layout::Podwire).into();
            // Nobody prepares the others' nodes.
            configuration["podwired"] = false.into();
        }
        let attach = |node: &Host, configuration: &Value| -> Result<(Host, IpAddr), String> {
            let (pod, netns): (Host, PathBuf) = node.pod("pod")?;
            wire::set_up(&pod, "lo")?;
            let result = Call::new("ADD", "pod", &netns, configuration).execute(node)?.result()?;
            let address = result["ips"].as_array().into_iter().flatten().find_map(|entry| {
                let address: IpAddr = entry["address"].as_str()?.split('/').next()?.parse().ok()?;
                address.is_ipv4().then_some(address)
            });
            Ok((pod, address.ok_or_else(|| format!("a pod without an IPv4 address: {result}"))?))
        };
        let (first, second) = match layout {
            Layout::Flannel => (on_bridge(&nodes[0], 1)?, on_bridge(&nodes[1], 2)?),
            _ => (attach(&nodes[0], &configurations[0])?, attach(&nodes[1], &configurations[1])?),
        };
        if layout == Layout::Podwire {
            nodes.iter().try_for_each(wait_for_fast_path)?;
        }
        let (pods, addresses) = ([first.0, second.0], [first.1, second.1]);
        Ok(Self { layout, pods, addresses, _nodes: nodes, _switch: switch, _daemons: daemons })
    }
}

/// The flannel layout on a node, IPv4 only, as flannel programs it, but by `ip -batch` and `bridge -batch`: how long the
/// entries of the peers took.
///
/// # Errors
/// What was refused.
pub(crate) fn flannel(node: &Host, number: u32, peers: u32) -> Result<Duration, String> {
    let (own, (pods, _)) = (plan::underlay(number).to_string(), plan::pods(number));
    let mac = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    };
    let create = ["link", "add", FLANNEL, "address", &mac(number), "mtu", "1450", "type", "vxlan", "id", "1"];
    // As flannel makes it: the outer UDP checksum is off, which is not ip's default.
    let how = ["dev", UPLINK, "local", &own, "dstport", "8472", "nolearning", "noudpcsum"];
    node.run("ip", &[&create[..], &how[..]].concat())?;
    node.run("ip", &["address", "add", &format!("{pods}/32"), "dev", FLANNEL])?;
    node.run("ip", &["link", "set", FLANNEL, "up"])?;
    let (mut entries, mut forwarding) = (String::new(), String::new());
    for peer in (1..=peers + 1).filter(|peer| *peer != number) {
        let ((pods, _), mac, address) = (plan::pods(peer), mac(peer), plan::underlay(peer));
        // Writing to a string does not fail.
        let _ = writeln!(entries, "neighbour replace {pods} lladdr {mac} dev {FLANNEL} nud permanent");
        let _ = writeln!(entries, "route replace {pods}/24 via {pods} dev {FLANNEL} onlink");
        let _ = writeln!(forwarding, "fdb append {mac} dev {FLANNEL} dst {address} self permanent");
    }
    let start = Instant::now();
    batch(node, "ip", &entries)?;
    batch(node, "bridge", &forwarding)?;
    Ok(start.elapsed())
}

/// A pod of a node as flannel's CNI configuration has it attached: on the bridge `cni0`, hairpin on.
fn on_bridge(node: &Host, number: u32) -> Result<(Host, IpAddr), String> {
    let (network, _) = plan::pods(number);
    let [gateway, address] = [1, 2].map(|last| std::net::Ipv4Addr::from(u32::from(network) + last));
    let (pod, _) = node.pod("pod")?;
    wire::set_up(&pod, "lo")?;
    let on = |host: &Host, line: &str| host.run("ip", &line.split(' ').collect::<Vec<_>>()).map(drop);
    on(node, "link add cni0 mtu 1450 type bridge")?;
    on(node, &format!("address add {gateway}/24 dev cni0"))?;
    on(node, "link set cni0 up")?;
    on(node, "link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns pod")?;
    on(node, "link set veth0 master cni0 up")?;
    node.run("bridge", &["link", "set", "dev", "veth0", "hairpin", "on"])?;
    on(&pod, &format!("address add {address}/24 dev eth0"))?;
    on(&pod, "link set eth0 up")?;
    on(&pod, &format!("route add default via {gateway}"))?;
    Ok((pod, address.into()))
}

/// The rules that flannel masquerades by: nothing within the cluster, everything that leaves it.
fn masquerade(node: &Host, number: u32) -> Result<(), String> {
    let (own, cluster) = (format!("{}/24", plan::pods(number).0), "10.0.0.0/8");
    let rules = format!(
        "add table ip flannel-ipv4
        add chain ip flannel-ipv4 postrtg {{ type nat hook postrouting priority srcnat; }}
        add rule ip flannel-ipv4 postrtg ip saddr {own} ip daddr {cluster} return
        add rule ip flannel-ipv4 postrtg ip saddr {cluster} ip daddr {own} return
        add rule ip flannel-ipv4 postrtg ip saddr != {cluster} ip daddr {own} return
        add rule ip flannel-ipv4 postrtg ip saddr {cluster} ip daddr != 224.0.0.0/4 masquerade fully-random"
    );
    const FILE: &str = "/run/rules";
    node.enter(|| fs::write(FILE, rules)).map_err(|error| format!("write {FILE}: {error}"))?;
    node.run("nft", &["-f", FILE]).map(drop)
}

/// Waits until the fast path is at the overlay and at the pod.
fn wait_for_fast_path(node: &Host) -> Result<(), String> {
    lab::eventually(lab::SOON, || {
        let links = node.run("ip", &["-o", "link"])?;
        let names = links.lines().filter_map(|line| line.split([':', '@']).nth(1)).map(str::trim);
        for name in names.filter(|name| name.starts_with("pw") || name.starts_with("podwire")) {
            let found = node.run("tc", &["filter", "show", "dev", name, "ingress"])?;
            if !found.contains("podwire-forward") {
                return Err(format!("{name} has no fast path: {found}"));
            }
        }
        Ok(())
    })
}

fn plain(node: &Host, number: u32, peers: u32) -> Result<(), String> {
    let mut entries = String::new();
    for peer in (1..=peers + 1).filter(|peer| *peer != number) {
        let ((pods, _), address) = (plan::pods(peer), plan::underlay(peer));
        let _ = writeln!(entries, "route replace {pods}/24 via {address}");
    }
    batch(node, "ip", &entries)
}

/// Has a program execute a text on a node.
fn batch(node: &Host, program: &str, text: &str) -> Result<(), String> {
    const FILE: &str = "/run/batch";
    node.enter(|| fs::write(FILE, text)).map_err(|error| format!("write {FILE}: {error}"))?;
    node.run(program, &["-batch", FILE]).map(drop)
}
