//! A cluster as documents, as the API and people write them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

/// The name of the node that a cluster is seen from.
pub const HERE: &str = "here";

/// A cluster, and what is attached to this node.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Pods.
    pub pods: Vec<Value>,
    /// Namespaces.
    pub namespaces: Vec<Value>,
    /// NetworkPolicies.
    pub policies: Vec<Value>,
    /// ClusterNetworkPolicies.
    pub cluster_policies: Vec<Value>,
    /// Addresses that are held here, each by the pod at that place.
    pub held: Vec<(IpAddr, usize)>,
    /// Addresses that are held here by pods of which no object is known.
    pub unknown: BTreeSet<IpAddr>,
    /// Addresses that stand for others as far as ipBlocks go.
    pub judged_as: Vec<(IpAddr, IpAddr)>,
}

impl World {
    /// Of YAML documents. What is on this node holds the addresses that its object has.
    pub fn of(text: &str) -> Self {
        let mut world = Self::default();
        let options = serde_saphyr::options! { strict_booleans: true };
        for document in serde_saphyr::from_multiple_with_options::<Value>(text, options).unwrap() {
            match document["kind"].as_str() {
                Some("Pod") => world.pods.push(document),
                Some("Namespace") => world.namespaces.push(document),
                Some("NetworkPolicy") => world.policies.push(document),
                Some("ClusterNetworkPolicy") => world.cluster_policies.push(document),
                other => panic!("{other:?} in {text}"),
            }
        }
        world.hold(|pod| pod["spec"]["nodeName"] == HERE);
        world
    }

    /// Has some pods hold the addresses that their objects have.
    pub fn hold(&mut self, these: impl Fn(&Value) -> bool) {
        let pods = self.pods.iter().enumerate().filter(|(_, pod)| these(pod));
        self.held = pods.flat_map(|(place, pod)| addresses(pod).map(move |address| (address, place))).collect();
    }

    /// The pod that holds an address here.
    pub fn holder(&self, address: IpAddr) -> Option<&Value> {
        self.held.iter().find(|(held, _)| *held == address).map(|(_, place)| &self.pods[*place])
    }

    /// Moves blocks from the addresses that random clusters have to others that end alike: to prefixes of 28 and 124 bits.
    pub fn move_blocks(&mut self, four: Ipv4Addr, six: Ipv6Addr) {
        let moved = |prefix: &mut Value| {
            let old: IpNetwork = prefix.as_str().unwrap().parse().unwrap();
            let network: IpAddr = match old.network() {
                IpAddr::V4(network) if old.prefix() >= 28 => {
                    Ipv4Addr::from(u32::from(four) | (u32::from(network) & 15)).into()
                }
                IpAddr::V6(network) if old.prefix() >= 124 => {
                    Ipv6Addr::from(u128::from(six) | (u128::from(network) & 15)).into()
                }
                _ => return,
            };
            *prefix = json!(format!("{network}/{}", old.prefix()));
        };
        for policy in &mut self.cluster_policies {
            let rules = policy["spec"].get_mut("egress").map(items).into_iter().flatten();
            for peer in rules.filter_map(|rule| rule.get_mut("to")).flat_map(items) {
                peer.get_mut("networks").map(items).into_iter().flatten().for_each(moved);
            }
        }
        for policy in &mut self.policies {
            for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
                let rules = policy["spec"].get_mut(direction).map(items).into_iter().flatten();
                for block in rules.filter_map(|rule| rule.get_mut(peers)).flat_map(items) {
                    let Some(block) = block.get_mut("ipBlock") else { continue };
                    moved(&mut block["cidr"]);
                    block.get_mut("except").map(items).into_iter().flatten().for_each(moved);
                }
            }
        }
    }

    /// The same cluster, seen from another node.
    pub fn seen_from(&self, node: &str) -> Self {
        let mut seen = self.clone();
        for pod in &mut seen.pods {
            let name = &mut pod["spec"]["nodeName"];
            if *name == node {
                *name = json!(HERE);
            } else if *name == HERE {
                *name = json!("another");
            }
        }
        seen.hold(|pod| pod["spec"]["nodeName"] == HERE && is_peer(pod));
        seen
    }
}

/// Whether a pod can be anybody's peer: it has an address of its own, and has not finished.
pub fn is_peer(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] != true && pod["status"]["phase"] != "Succeeded" && pod["status"]["phase"] != "Failed"
}

/// The addresses that a pod's node has reported.
pub fn addresses(pod: &Value) -> impl Iterator<Item = IpAddr> + '_ {
    list(&pod["status"]["podIPs"]).iter().map(|entry| entry["ip"].as_str().unwrap().parse().unwrap())
}

/// A list, which is empty where there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The items of a list that may be missing.
pub fn items(list: &mut Value) -> &mut [Value] {
    list.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
}
