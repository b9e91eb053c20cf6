//! podwire in one list with the CNI project's plugins, which take from its answer where the pod is and how it is reached,
//! and change what it has made: Debian's release of them, and the one that `scripts/reference-plugins` builds.

use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use podwire_tests::lab::chain::{Chain, Section};
use podwire_tests::lab::exchange::{PORT, Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, field, json as look, reaches, same, scene, state};
use podwire_tests::lab::{Lab, SOON, eventually, outside_address, wire};
use serde_json::{Value, json};

use crate::stage::held;

/// Debian's release of the plugins, which knows versions up to 1.0.0.
const DEBIAN: &str = "/usr/lib/cni";

/// Where the current release of the plugins is.
const CURRENT: &str = "PODWIRE_REFERENCE_PLUGINS";

/// The releases of the plugins, and the versions that each is spoken to in.
fn releases() -> Outcome<[(PathBuf, &'static [&'static str]); 2]> {
    let current = env::var_os(CURRENT).map(PathBuf::from).filter(|directory| directory.join("portmap").is_file());
    let current = current.ok_or_else(|| {
        format!(
            "{CURRENT} is not a directory with plugins: run scripts/test, which sets it by scripts/reference-plugins"
        )
    })?;
    Ok([(DEBIAN.into(), &["0.4.0", "1.0.0"]), (current, &["0.3.1", "0.4.0", "1.0.0", "1.1.0"])])
}

/// The section of a list in which podwire attaches the pod.
fn podwire() -> Section {
    let configuration = json!({
        "type": "podwire", "mtu": 1400,
        "ipam": {
            "ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    configuration.into()
}

/// The section of ptp, which makes an interface of its own.
fn ptp(interface: &str) -> Section {
    let configuration = json!({
        "type": "ptp", "dns": {"nameservers": ["192.0.2.53"]},
        "ipam": {
            "type": "host-local", "dataDir": "/run/host-local",
            "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]],
            "routes": [{"dst": "198.51.100.0/24"}],
        },
    });
    Section { configuration, interface: interface.into() }
}

/// The section of portmap, and the request for a port of the node.
fn portmap() -> (Section, Value) {
    let requests = json!({"portMappings": [{"hostPort": PORT, "containerPort": PORT, "protocol": "tcp"}]});
    (json!({"type": "portmap", "capabilities": {"portMappings": true}}).into(), requests)
}

/// The section of bandwidth, and the request for limits in both directions.
fn bandwidth() -> (Section, Value) {
    let limits = json!({
        "ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 4_000_000, "egressBurst": 8_000_000,
    });
    (json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}).into(), json!({"bandwidth": limits}))
}

/// The section of tuning with a smaller MTU, which it does not tell in its answer, and a setting.
fn tuning() -> Section {
    json!({"type": "tuning", "mtu": 1300, "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}}).into()
}

/// A node that forwards, and the world outside of it, which knows the way to the pods.
struct Stage {
    host: Host,
    outside: Host,
    before: Value,
    _responder: Responder,
}

/// A pod that a list of plugins is called for.
struct Pod {
    inside: Host,
    chain: Chain,
    /// Its addresses on eth0, IPv4 first.
    addresses: Vec<IpAddr>,
}

impl Stage {
    fn set(lab: &Lab) -> Outcome<Self> {
        let (host, outside) = (lab.nodes[0].host.clone(), lab.outside.clone());
        let forward = "cd /proc/sys/net && echo 1 > ipv4/ip_forward && echo 1 > ipv6/conf/all/forwarding";
        host.run("sh", &["-c", forward])?;
        for (like, prefix) in FAMILIES.into_iter().zip(["10.7.0.0/24", "fd00:7::/64"]) {
            outside.run("ip", &["route", "add", prefix, "via", &underlay_address(1, like).to_string()])?;
        }
        let _responder = Responder::start(&outside)?;
        for like in FAMILIES {
            // The kernel takes an IPv6 address into use a little after it was given.
            eventually(SOON, || exchange(&host, outside_address(like)))?;
        }
        let mut stage = Self { host, outside, before: Value::Null, _responder };
        stage.before = stage.own()?;
        Ok(stage)
    }

    /// A pod, and the list that nobody has called yet.
    fn pod(&self, name: &str, others: &Path, version: &str, plugins: &[Section], requests: &Value) -> Outcome<Pod> {
        let (inside, netns) = self.host.pod(name)?;
        wire::set_up(&inside, "lo")?;
        // ptp would wait for it.
        inside.run("sh", &["-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"])?;
        let chain = Chain {
            version: version.into(),
            others: others.into(),
            plugins: plugins.to_vec(),
            requests: requests.clone(),
            container: name.into(),
            netns,
            answers: Vec::new(),
        };
        Ok(Pod { inside, chain, addresses: Vec::new() })
    }

    /// What podwire and the kernel have on the node. The tables that the others leave there for the next pod are theirs.
    fn own(&self) -> Outcome<Value> {
        let mut own = state(&self.host)?;
        if let Some(entries) = own["nftables"]["nftables"].as_array_mut() {
            let of_podwire = |entry: &Value| {
                let kinds = ["chain", "rule", "set", "map"].iter();
                entry["table"]["name"] == "podwire" || kinds.into_iter().any(|kind| entry[kind]["table"] == "podwire")
            };
            entries.retain(of_podwire);
        }
        own["held"] = json!(held(&self.host));
        Ok(own)
    }

    /// That the pod has connections in both directions, with the node and with the world, in both families.
    fn connects(&self, pod: &Pod) -> Outcome {
        let _responder = Responder::start(&pod.inside)?;
        for (own, like) in pod.addresses.iter().zip(FAMILIES) {
            reaches(&self.outside, outside_address(like), *own)?;
            reaches(&pod.inside, *own, outside_address(like))?;
            exchange(&self.host, *own)?;
        }
        Ok(())
    }

    /// That the pod answers at the node's port.
    fn publishes(&self, pod: &Pod) -> Outcome {
        let _responder = Responder::start(&pod.inside)?;
        for like in FAMILIES {
            reaches(&self.outside, outside_address(like), underlay_address(1, like))?;
            exchange(&self.host, underlay_address(1, like))?;
        }
        let rules = self.rules()?;
        check(!rules.contains("table inet podwire"), || format!("podwire has touched the ports: {rules}"))
    }

    /// CHECK, where the version has it.
    fn is_intact(&self, pod: &Pod) -> Outcome {
        if pod.chain.version.as_str() < "0.4.0" {
            return Ok(());
        }
        let mut told = pod.chain.check(&self.host);
        // ptp looks for the addresses of all interfaces on its own.
        told.retain(|why| !(why.starts_with("CHECK of ptp ") && why.contains("Failed to match addr 10.7.0.")));
        if pod.chain.others == Path::new(DEBIAN) {
            // Debian's portmap looks for the rules of one family in the tables of the other.
            told.retain(|why| !(why.starts_with("CHECK of portmap ") && why.contains("could not check ipv")));
        }
        check(told.is_empty(), || told.join("\n"))
    }

    /// DEL, and DEL again; the node is as it was, and nobody's rule names the pod.
    fn ends(&self, pod: Pod) -> Outcome {
        pod.chain.del(&self.host)?;
        match pod.chain.del(&self.host) {
            // sbr cannot be called again when the interface has gone.
            Err(why) if why.starts_with("DEL of sbr ") && why.contains("Link not found") => {}
            again => again?,
        }
        same("the node after DEL", &self.before, &self.own()?)?;
        let rules = self.rules()?;
        let mut words = rules.split(|letter: char| !letter.is_ascii_hexdigit() && !".:".contains(letter));
        let left = words.find(|word| word.parse().is_ok_and(|address| pod.addresses.contains(&address)));
        check(left.is_none(), || format!("rules for {left:?} are left: {rules}"))?;
        drop(pod.inside);
        self.host.remove_pod(&pod.chain.netns)
    }

    fn rules(&self) -> Outcome<String> {
        self.host.run("nft", &["list", "ruleset"])
    }
}

impl Pod {
    fn add(&mut self, host: &Host) -> Outcome {
        self.chain.add(host)?;
        let result = self.chain.result();
        let place = result["interfaces"].as_array().into_iter().flatten().position(|interface| {
            interface["name"] == "eth0" && interface["sandbox"] == self.chain.netns.display().to_string()
        });
        let place = place.ok_or_else(|| format!("no eth0 in {result}"))?;
        let ips = result["ips"].as_array().into_iter().flatten().filter(|ip| ip["interface"] == place);
        let address = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
        self.addresses = ips.filter_map(address).collect();
        check(self.addresses.len() == FAMILIES.len(), || format!("no address of each family: {result}"))
    }

    /// That its device on the host, and the one that stands for what it sends, are shaped.
    fn is_shaped(&self, host: &Host) -> Outcome {
        let names = field(&self.chain.result()["interfaces"], "name");
        let outer = names.iter().find(|name| name.starts_with("pw")).ok_or("no device of podwire's")?;
        let queues = look(host, "tc", &["-j", "qdisc", "show"])?;
        let of = |device: &str| {
            let queues = queues.as_array().into_iter().flatten().filter(|queue| queue["dev"] == device);
            field(&queues.cloned().collect(), "kind")
        };
        let towards = of(outer).iter().any(|kind| kind == "tbf" || kind == "htb");
        let from = of(outer).contains(&"ingress".to_owned()) && names.iter().any(|name| name.starts_with("bwp"));
        check(towards && from, || format!("{outer} is not shaped both ways: {queues}"))
    }

    fn is_tuned(&self) -> Outcome {
        let link = look(&self.inside, "ip", &["-j", "link", "show", "eth0"])?;
        let setting = self.inside.run("cat", &["/proc/sys/net/ipv4/conf/eth0/log_martians"])?;
        check(link[0]["mtu"] == 1300 && setting == "1", || format!("not tuned: {link}, log_martians {setting}"))
    }
}

/// Plays with every release and version from `least`.
#[track_caller]
fn each(least: &str, body: impl Fn(&Stage, &Path, &str) -> Outcome) {
    scene(1, |lab| {
        let stage = Stage::set(lab)?;
        for (others, versions) in releases()? {
            for version in versions.iter().filter(|version| **version >= least) {
                body(&stage, &others, version).map_err(|why| format!("{} in {version}: {why}", others.display()))?;
            }
        }
        Ok(())
    });
}

/// Plays a list: ADD, connections, what `body` looks at, CHECK, DEL and DEL, and nothing of podwire's is left.
#[track_caller]
fn play(plugins: &[Section], requests: &Value, body: impl Fn(&Stage, &Pod) -> Outcome) {
    // Of firewall there is none before 0.4.0.
    let least = if plugins.iter().any(|plugin| plugin.configuration["type"] == "firewall") { "0.4.0" } else { "0.3.1" };
    each(least, |stage, others, version| {
        let mut pod = stage.pod("p1", others, version, plugins, requests)?;
        pod.add(&stage.host)?;
        stage.connects(&pod)?;
        body(stage, &pod)?;
        stage.is_intact(&pod)?;
        stage.ends(pod)
    });
}

#[test]
fn h6_portmap_finds_the_pod_and_has_the_ports_to_itself() {
    let (portmap, requests) = portmap();
    play(&[podwire(), portmap], &requests, Stage::publishes);
}

#[test]
fn h6_h7_bandwidth_finds_the_device_and_adds_one() {
    let (bandwidth, requests) = bandwidth();
    play(&[podwire(), bandwidth], &requests, |stage, pod| pod.is_shaped(&stage.host));
}

#[test]
fn h6_h7_tuning_changes_the_mtu_and_a_sysctl() {
    play(&[podwire(), tuning()], &json!({}), |_, pod| pod.is_tuned());
}

#[test]
fn h6_h7_a_mac_that_tuning_changed_is_reported_by_check() {
    let tuning = json!({"type": "tuning", "mac": "02:00:00:00:00:77"});
    each("0.4.0", |stage, others, version| {
        let mut pod = stage.pod("p1", others, version, &[podwire(), tuning.clone().into()], &json!({}))?;
        pod.add(&stage.host)?;
        let told = stage.is_intact(&pod).err().unwrap_or_default();
        check(told.contains("instead of changing it behind it"), || format!("CHECK says {told:?}"))?;
        stage.ends(pod)
    });
}

#[test]
fn h6_h7_sbr_moves_the_routes_into_a_table_of_its_own() {
    let plugins = [podwire(), json!({"type": "sbr"}).into()];
    each("0.3.1", |stage, others, version| {
        let mut pod = stage.pod("p1", others, version, &plugins, &json!({}))?;
        pod.add(&stage.host)?;
        let _responder = Responder::start(&pod.inside)?;
        for (own, like) in pod.addresses.iter().zip(FAMILIES) {
            // What is asked of this address is answered from it, and so by the table.
            reaches(&stage.outside, outside_address(like), *own)?;
            exchange(&stage.host, *own)?;
            let family = if own.is_ipv4() { "-4" } else { "-6" };
            let left = look(&pod.inside, "ip", &[family, "-j", "route", "show", "default"])?;
            check(left == json!([]), || format!("still in the main table: {left}"))?;
        }
        stage.is_intact(&pod)?;
        stage.ends(pod)
    });
}

#[test]
fn h6_firewall_lets_its_pod_through_where_forwarding_is_rejected() {
    let plugins = [podwire(), json!({"type": "firewall"}).into()];
    each("0.4.0", |stage, others, version| {
        let mut pod = stage.pod("p1", others, version, &plugins, &json!({}))?;
        pod.add(&stage.host)?;
        for program in ["iptables", "ip6tables"] {
            stage.host.run(program, &["-A", "FORWARD", "-j", "REJECT"])?;
        }
        let mut other = stage.pod("p2", others, version, &plugins[..1], &json!({}))?;
        other.add(&stage.host)?;
        for (own, like) in pod.addresses.iter().zip(FAMILIES) {
            reaches(&pod.inside, *own, outside_address(like))?;
            check(exchange(&other.inside, outside_address(like)).is_err(), || format!("all may out like {like}"))?;
        }
        stage.is_intact(&pod)?;
        other.chain.del(&stage.host)?;
        stage.host.remove_pod(&other.chain.netns)?;
        for program in ["iptables", "ip6tables"] {
            stage.host.run(program, &["-D", "FORWARD", "-j", "REJECT"])?;
        }
        stage.ends(pod)
    });
}

#[test]
fn h6_h7_h8_four_plugins_chained_behind_podwire_work() {
    let ((portmap, mut requests), (bandwidth, limits)) = (portmap(), bandwidth());
    requests["bandwidth"] = limits["bandwidth"].clone();
    let plugins = [podwire(), portmap, json!({"type": "firewall"}).into(), tuning(), bandwidth];
    play(&plugins, &requests, |stage, pod| {
        stage.publishes(pod)?;
        pod.is_tuned()?;
        pod.is_shaped(&stage.host)
    });
}

/// That what podwire has answered is what it was told, and its own behind it.
fn is_merged(pod: &Pod) -> Outcome {
    let [told, answered, ..] = &pod.chain.answers[..] else { return Err("no two answers".into()) };
    for (key, own) in [("interfaces", 2), ("ips", 2), ("routes", 3)] {
        let (told, answered) = (told[key].as_array(), answered[key].as_array());
        let told = told.map_or(&[][..], Vec::as_slice);
        let kept = answered.is_some_and(|answered| answered.starts_with(told) && answered.len() == told.len() + own);
        check(kept, || format!("{key} were {told:?} and are {answered:?}"))?;
    }
    check(told["dns"] == answered["dns"], || format!("{answered}"))
}

#[test]
fn h1_h6_h10_h11_the_result_of_ptp_before_podwire_is_kept() {
    let (portmap, requests) = portmap();
    play(&[ptp("net9"), podwire(), portmap], &requests, |stage, pod| {
        is_merged(pod)?;
        stage.publishes(pod)
    });
}

#[test]
fn h1_h5_h6_the_result_of_loopback_before_podwire_is_kept() {
    let (portmap, requests) = portmap();
    let plugins = [json!({"type": "loopback"}).into(), podwire(), portmap];
    each("0.3.1", |stage, others, version| {
        // Only Debian's release is built with it.
        if others != Path::new(DEBIAN) {
            return Ok(());
        }
        let mut pod = stage.pod("p1", others, version, &plugins, &requests)?;
        pod.add(&stage.host)?;
        is_merged(&pod)?;
        stage.connects(&pod)?;
        stage.publishes(&pod)?;
        stage.is_intact(&pod)?;
        stage.ends(pod)
    });
}

#[test]
fn h3_h6_h9_a_chain_that_fails_in_the_middle_leaves_nothing() {
    let unknown = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.nothing": "1"}});
    let (portmap, requests) = portmap();
    let lists = [
        (vec![ptp("eth0"), podwire()], "prevResult has interface eth0 of this pod already"),
        (vec![podwire(), portmap, unknown.into()], "no such file"),
    ];
    each("0.3.1", |stage, others, version| {
        for (plugins, why) in &lists {
            let mut pod = stage.pod("p1", others, version, plugins, &requests)?;
            let told = pod.add(&stage.host).err().unwrap_or_default();
            check(told.contains(why), || format!("ADD says {told:?}"))?;
            stage.ends(pod)?;
        }
        Ok(())
    });
}
