//! Random clusters out of few names, labels, addresses and ports, so that everything meets everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::packet::{PROTOCOLS, Packet};
use crate::world::{HERE, World, is_peer};

/// Numbers that follow from a seed (SplitMix64).
pub struct Random(pub u64);

/// Addresses end with a number below this one.
pub(crate) const ADDRESSES: u64 = 16;

/// What pods have of them; the rest are those of nodes, and of an overlay address that stands for one of them.
const OF_PODS: u64 = 12;

impl Random {
    /// A number below another.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Whether something that happens once in so many times happens.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of a list.
    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    pub(crate) fn list(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> Value) -> Vec<Value> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    /// A cluster.
    pub fn world(&mut self) -> World {
        let mut world = World::default();
        for name in ["a", "b", "c"] {
            world.namespaces.push(json!({"metadata": {"name": name, "labels": self.labels()}}));
        }
        for number in 0..4 + self.below(8) {
            let pod = self.pod(number);
            world.pods.push(pod);
        }
        for number in 0..1 + self.below(5) {
            let policy = self.policy(number);
            world.policies.push(policy);
        }
        for (place, pod) in world.pods.iter().enumerate().filter(|(_, pod)| pod["spec"]["nodeName"] == HERE) {
            // What the node has reported may be late.
            let late = self.once_in(5);
            for entry in pod["status"]["podIPs"].as_array().unwrap() {
                let reported: IpAddr = entry["ip"].as_str().unwrap().parse().unwrap();
                let address = if late { address(reported.is_ipv4(), self.below(OF_PODS)) } else { reported };
                if world.held.iter().all(|(held, _)| *held != address) {
                    world.held.push((address, place));
                }
            }
        }
        for is_ipv4 in [true, false] {
            world.judged_as.push((address(is_ipv4, ADDRESSES - 1), address(is_ipv4, OF_PODS + self.below(2))));
        }
        world
    }

    /// A cluster with ClusterNetworkPolicies, too.
    pub fn tiered_world(&mut self) -> World {
        let mut world = self.world();
        self.add_tiers(&mut world);
        world
    }

    /// Some ClusterNetworkPolicies more.
    pub fn add_tiers(&mut self, world: &mut World) {
        for number in 0..1 + self.below(4) {
            let policy = self.cluster_policy(number);
            world.cluster_policies.push(policy);
        }
    }

    /// A cluster of these pods: namespace, node and addresses of each are given, the rest is random. All of them are held here,
    /// as if there were one node.
    pub fn cluster_of(&mut self, pods: &[(&str, &str, Vec<IpAddr>)]) -> World {
        let mut world = self.world();
        world.namespaces.push(json!({"metadata": {"name": "unknown", "labels": self.labels()}}));
        world.pods.clear();
        for (number, (namespace, node, addresses)) in (0..).zip(pods) {
            let mut pod = self.pod(number);
            pod["metadata"]["namespace"] = json!(namespace);
            pod["spec"]["nodeName"] = json!(node);
            pod["spec"]["hostNetwork"] = json!(false);
            pod["status"]["podIPs"] = addresses.iter().map(|address| json!({"ip": address})).collect();
            world.pods.push(pod);
        }
        world.judged_as.clear();
        world.hold(|_| true);
        world
    }

    /// A cluster that has come to rest: every namespace has an object, no two pods have one address, and what pods have is what
    /// their nodes have reported.
    pub fn settled(&mut self) -> World {
        let mut world = self.world();
        world.namespaces.push(json!({"metadata": {"name": "unknown", "labels": self.labels()}}));
        let first = self.below(OF_PODS);
        for (place, pod) in (0..).zip(&mut world.pods) {
            let host_network = pod["spec"]["hostNetwork"] == true;
            let nodes = OF_PODS + self.below(ADDRESSES - OF_PODS);
            // Pods are no more than addresses, and 5 and 12 have no divisor in common.
            let number = if host_network { nodes } else { (first + 5 * place) % OF_PODS };
            let addresses = [true, false].map(|is_ipv4| json!({"ip": address(is_ipv4, number).to_string()}));
            pod["status"]["podIPs"] = json!(addresses);
        }
        world.judged_as.clear();
        world.hold(|pod| pod["spec"]["nodeName"] == HERE && is_peer(pod));
        world
    }

    /// A packet that one of the pods here sends or receives.
    pub fn packet(&mut self, world: &World) -> Packet {
        let held: Vec<_> = world.held.iter().map(|(held, _)| *held).chain(world.unknown.iter().copied()).collect();
        let own = held.get(usize::try_from(self.below(held.len().max(1) as u64)).unwrap());
        let own = own.copied().unwrap_or(address(true, 0));
        let peer = address(own.is_ipv4(), self.below(ADDRESSES));
        let (source, destination) = if self.once_in(2) { (own, peer) } else { (peer, own) };
        let port = (!self.once_in(8)).then(|| (self.of(&PROTOCOLS), self.port()));
        Packet { source, destination, port }
    }

    /// Packets between each pod here and each address, in both directions, on some port.
    pub fn packets(&mut self, world: &World) -> Vec<Packet> {
        let held = world.held.iter().map(|(held, _)| *held).chain(world.unknown.iter().copied());
        let mut packets = Vec::new();
        for own in held {
            for peer in (0..ADDRESSES).map(|number| address(own.is_ipv4(), number)) {
                for (source, destination) in [(own, peer), (peer, own)] {
                    let port = Some((self.of(&PROTOCOLS), self.port()));
                    packets.extend([port, None].map(|port| Packet { source, destination, port }));
                }
            }
        }
        packets
    }

    /// One thing of a cluster is another one afterwards: mostly a pod.
    pub fn change(&mut self, world: &mut World) {
        if !world.cluster_policies.is_empty() && self.once_in(4) {
            return self.change_tiers(&mut world.cluster_policies);
        }
        let place = usize::try_from(self.below(world.pods.len().max(1) as u64)).unwrap();
        match self.below(18) {
            0 => {
                let policy = self.policy(world.policies.len() as u64);
                world.policies.push(policy);
            }
            1 => drop(world.policies.pop()),
            2 => {
                let last = world.policies.len() as u64;
                if let Some(policy) = world.policies.last_mut() {
                    *policy = self.policy(last - 1);
                }
            }
            3 if self.once_in(4) => drop(world.judged_as.pop()),
            3 => {
                let labels = self.labels();
                if let Some(namespace) = world.namespaces.first_mut() {
                    namespace["metadata"]["labels"] = labels;
                }
            }
            12 => {
                let name = self.of(&["a", "b", "c"]);
                let before = world.namespaces.len();
                world.namespaces.retain(|namespace| namespace["metadata"]["name"] != name);
                if world.namespaces.len() == before {
                    world.namespaces.push(json!({"metadata": {"name": name, "labels": self.labels()}}));
                }
            }
            // A policy is enforced that was not, or the other way round.
            13 | 14 if !world.policies.is_empty() => {
                let place = usize::try_from(self.below(world.policies.len() as u64)).unwrap();
                let audit = &mut world.policies[place]["metadata"]["annotations"]["podwire.dev/audit"];
                *audit = json!(if *audit == "true" { "false" } else { "true" });
            }
            // The object of a pod here is not known, becomes known, or its DEL comes first.
            15 => world.unknown.extend(world.held.pop().map(|(address, _)| address)),
            16 if place < world.pods.len() => {
                world.held.extend(world.unknown.pop_first().map(|address| (address, place)));
            }
            17 => drop(world.unknown.pop_last()),
            4 => {
                let pod = self.pod(world.pods.len() as u64);
                world.pods.push(pod);
            }
            5 => {
                world.pods.pop();
                world.held.retain(|(_, holder)| *holder < world.pods.len());
            }
            6 => drop(world.held.pop()),
            7 if place < world.pods.len() => {
                let address = address(self.once_in(2), self.below(OF_PODS));
                if world.held.iter().all(|(held, _)| *held != address) && !world.unknown.contains(&address) {
                    world.held.push((address, place));
                }
            }
            8 | 9 if place < world.pods.len() => world.pods[place]["metadata"]["labels"] = self.labels(),
            _ if place < world.pods.len() => world.pods[place] = self.pod(place as u64),
            _ => {}
        }
    }

    /// One of the ports that rules have, or that are next to one.
    pub fn port(&mut self) -> u16 {
        // Half of them are two, so that rules of several protocols and peers meet at one port.
        if self.once_in(2) { self.of(&[80, 81]) } else { self.of(&[1, 79, 80, 81, 82, 83, 84, 8080, 65535]) }
    }

    fn labels(&mut self) -> Value {
        let mut labels = json!({});
        for key in ["app", "tier"] {
            if !self.once_in(3) {
                labels[key] = json!(self.of(&["x", "y", ""]));
            }
        }
        labels
    }

    pub(crate) fn selector(&mut self) -> Value {
        let mut selector = json!({});
        if self.once_in(2) {
            selector["matchLabels"] = self.labels();
        }
        if self.once_in(2) {
            selector["matchExpressions"] = json!(self.list(2, |random| {
                let key = random.of(&["app", "tier", "kubernetes.io/metadata.name"]);
                let operator = random.of(&["In", "NotIn", "Exists", "DoesNotExist"]);
                let mut expression = json!({"key": key, "operator": operator});
                if operator.ends_with("In") {
                    let mut values = vec![json!(random.of(&["x", "y", "", "a", "b"]))];
                    values.extend(random.list(2, |random| json!(random.of(&["x", "y", "c"]))));
                    expression["values"] = json!(values);
                }
                expression
            }));
        }
        selector
    }

    fn pod(&mut self, number: u64) -> Value {
        let address_of =
            |is_ipv4, random: &mut Self| json!({"ip": address(is_ipv4, random.below(OF_PODS)).to_string()});
        let addresses: Vec<_> = [true, false].into_iter().map(|is_ipv4| address_of(is_ipv4, self)).collect();
        let phase = self.of(&["Running", "Running", "Running", "Pending", "Succeeded", "Failed"]);
        let restart = self.of(&["Always", "Never"]);
        json!({
            "metadata": {
                "name": format!("pod-{number}"), "namespace": self.of(&["a", "a", "b", "c", "unknown"]), "uid": number.to_string(),
                "labels": self.labels(), "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", (number * 7) % 60),
            },
            "spec": {
                "nodeName": self.of(&[HERE, HERE, "there", "elsewhere"]),
                "hostNetwork": self.once_in(8),
                "containers": self.list(2, Self::container),
                "initContainers": [{"restartPolicy": restart, "ports": self.container()["ports"]}],
            },
            "status": {"phase": phase, "podIPs": addresses},
        })
    }

    fn container(&mut self) -> Value {
        let ports = self.list(2, |random| {
            let mut port = json!({"name": random.of(&["http", "dns"]), "containerPort": random.port()});
            if random.once_in(2) {
                port["protocol"] = json!(random.of(&PROTOCOLS));
            }
            port
        });
        json!({"ports": ports})
    }

    fn policy(&mut self, number: u64) -> Value {
        let mut spec = json!({"podSelector": self.selector()});
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            if !self.once_in(3) {
                spec[direction] = json!(self.list(3, |random| random.rule(peers)));
            }
        }
        if self.once_in(2) {
            let some: &[&[&str]] = &[&["Ingress"], &["Egress"], &["Ingress", "Egress"], &["Egress", "Ingress"]];
            spec["policyTypes"] = json!(self.of(some));
        }
        let audit = if self.once_in(10) { "true" } else { "false" };
        let name = format!("policy-{number}");
        let namespace = self.of(&["a", "a", "b", "c", "unknown"]);
        json!({"metadata": {"name": name, "namespace": namespace, "annotations": {"podwire.dev/audit": audit}}, "spec": spec})
    }

    fn rule(&mut self, of_peers: &str) -> Value {
        let mut rule = json!({});
        if !self.once_in(4) {
            rule[of_peers] = json!(self.list(3, Self::peer));
        }
        if !self.once_in(3) {
            rule["ports"] = json!(self.list(3, Self::allowed_port));
        }
        rule
    }

    fn peer(&mut self) -> Value {
        match self.below(5) {
            0 => json!({"podSelector": self.selector()}),
            1 => json!({"namespaceSelector": self.selector()}),
            2 => json!({"podSelector": self.selector(), "namespaceSelector": self.selector()}),
            _ => self.block(),
        }
    }

    fn block(&mut self) -> Value {
        let is_ipv4 = self.once_in(2);
        let bits = if is_ipv4 { 32 } else { 128 };
        if self.once_in(8) {
            return json!({"ipBlock": {"cidr": if is_ipv4 { "0.0.0.0/0" } else { "::/0" }}});
        }
        let host_bits = self.below(5);
        let start = self.below(ADDRESSES);
        let cidr = format!("{}/{}", address(is_ipv4, start), bits - host_bits);
        let begin = start >> host_bits << host_bits;
        let except = if host_bits == 0 {
            Vec::new()
        } else {
            self.list(3, |random| {
                let hole = begin + random.below(1 << host_bits);
                json!(format!("{}/{}", address(is_ipv4, hole), bits - random.below(host_bits)))
            })
        };
        json!({"ipBlock": {"cidr": cidr, "except": except}})
    }

    fn allowed_port(&mut self) -> Value {
        let mut port = json!({});
        match self.below(5) {
            0 => {}
            1 => port["port"] = json!(self.of(&["http", "dns"])),
            2 => {
                let (first, last) = (self.port(), self.port());
                port["port"] = json!(first.min(last));
                port["endPort"] = json!(first.max(last));
            }
            _ => port["port"] = json!(self.port()),
        }
        if self.once_in(2) {
            port["protocol"] = json!(self.of(&PROTOCOLS));
        }
        port
    }
}

/// One of the addresses of a family.
pub(crate) fn address(is_ipv4: bool, number: u64) -> IpAddr {
    let last = u8::try_from(number).unwrap();
    if is_ipv4 {
        Ipv4Addr::new(10, 0, 0, last).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into()
    }
}
