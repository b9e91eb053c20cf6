//! A cluster as documents, as the API and people write them: decoded for the compiler, and as it is for the evaluator.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::policy::compiled::{Compiled, Packet};
use crate::policy::compiler::Compiler;
use crate::policy::inputs::{Inputs, Local};
use crate::policy::namespace::{self, Namespace};
use crate::policy::network_policy::{self, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::port::Protocol;

/// The name of this node.
pub(super) const HERE: &str = "here";

/// A cluster, and what is attached to this node.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) pods: Vec<Value>,
    pub(super) namespaces: Vec<Value>,
    pub(super) policies: Vec<Value>,
    /// Addresses that are held here, each by the pod at that place.
    pub(super) held: Vec<(IpAddr, usize)>,
    pub(super) judged_as: Vec<(IpAddr, IpAddr)>,
}

impl World {
    /// Of YAML documents. What is on this node holds the addresses that its object has.
    pub(super) fn of(text: &str) -> Self {
        let mut world = Self::default();
        let options = serde_saphyr::options! { strict_booleans: true };
        for document in serde_saphyr::from_multiple_with_options::<Value>(text, options).unwrap() {
            match document["kind"].as_str() {
                Some("Pod") => world.pods.push(document),
                Some("Namespace") => world.namespaces.push(document),
                Some("NetworkPolicy") => world.policies.push(document),
                other => panic!("{other:?} in {text}"),
            }
        }
        for (place, pod) in world.pods.iter().enumerate().filter(|(_, pod)| pod["spec"]["nodeName"] == HERE) {
            let addresses = pod["status"]["podIPs"].as_array().unwrap().iter();
            world.held.extend(addresses.map(|entry| (entry["ip"].as_str().unwrap().parse().unwrap(), place)));
        }
        world
    }

    /// The compiled form, by a compiler that may have compiled others before.
    pub(super) fn compile(&self, compiler: &mut Compiler) -> Compiled {
        let pods: Vec<Pod> = decode::<pod::Wire, _>(&self.pods);
        let namespaces: Vec<Namespace> = decode::<namespace::Wire, _>(&self.namespaces);
        let policies: Vec<NetworkPolicy> = decode::<network_policy::Wire, _>(&self.policies);
        let local = |(address, place): &'_ (IpAddr, usize)| (*place, [*address]);
        let held: Vec<_> = self.held.iter().map(local).collect();
        let inputs = Inputs {
            node: HERE,
            pods: pods.iter().collect(),
            namespaces: namespaces.iter().collect(),
            policies: policies.iter().collect(),
            local: held.iter().map(|(place, addresses)| Local { pod: &pods[*place], addresses }).collect(),
            judged_as: self.judged_as.clone(),
        };
        compiler.compile(&inputs).unwrap()
    }

    /// Whether a packet passes both ends, by a fresh compiler.
    pub(super) fn passes(&self, source: &str, destination: &str, port: &str) -> bool {
        self.compile(&mut Compiler::default()).verdict(&packet(source, destination, port)).passes()
    }
}

fn decode<W: DeserializeOwned, T: TryFrom<W, Error: std::fmt::Debug>>(values: &[Value]) -> Vec<T> {
    let decode = |value: &Value| serde_json::from_value::<W>(value.clone()).unwrap().try_into().unwrap();
    values.iter().map(decode).collect()
}

/// A packet to a port, such as `TCP/80`, or of no protocol that policies know (`ICMP`).
pub(super) fn packet(source: &str, destination: &str, port: &str) -> Packet {
    let port = port.split_once('/').map(|(protocol, port)| (Protocol::parse(protocol).unwrap(), port.parse().unwrap()));
    Packet { source: source.parse().unwrap(), destination: destination.parse().unwrap(), port }
}
