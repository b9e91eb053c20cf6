//! Clusters as documents, decoded for the compiler.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::policy::cluster_policy::{self, ClusterPolicy};
use crate::policy::compiled::{Compiled, Packet};
use crate::policy::compiler::Compiler;
use crate::policy::inputs::{Inputs, Local};
use crate::policy::namespace::{self, Namespace};
use crate::policy::network_policy::{self, NetworkPolicy};
use crate::policy::pod::{self, Pod};
use crate::policy::port::Protocol;

pub(super) use policy_model::world::{HERE, World};

/// Compiles clusters that are documents.
pub(super) trait Compile {
    /// The compiled form, by a compiler that may have compiled others before.
    fn compile(&self, compiler: &mut Compiler) -> Compiled;
}

impl Compile for World {
    fn compile(&self, compiler: &mut Compiler) -> Compiled {
        let pods: Vec<Pod> = decode::<pod::Wire, _>(&self.pods);
        let namespaces: Vec<Namespace> = decode::<namespace::Wire, _>(&self.namespaces);
        let policies: Vec<NetworkPolicy> = decode::<network_policy::Wire, _>(&self.policies);
        let cluster_policies: Vec<ClusterPolicy> = decode::<cluster_policy::Wire, _>(&self.cluster_policies);
        let local = |(address, place): &'_ (IpAddr, usize)| (*place, [*address]);
        let held: Vec<_> = self.held.iter().map(local).collect();
        let inputs = Inputs {
            node: HERE,
            pods: pods.iter().collect(),
            namespaces: namespaces.iter().collect(),
            policies: policies.iter().collect(),
            cluster_policies: cluster_policies.iter().collect(),
            local: held.iter().map(|(place, addresses)| Local { pod: &pods[*place], addresses }).collect(),
            unknown: self.unknown.clone(),
            judged_as: self.judged_as.clone(),
        };
        compiler.compile(&inputs).unwrap()
    }
}

pub(super) fn decode<W: DeserializeOwned, T: TryFrom<W, Error: std::fmt::Debug>>(values: &[Value]) -> Vec<T> {
    let decode = |value: &Value| serde_json::from_value::<W>(value.clone()).unwrap().try_into().unwrap();
    values.iter().map(decode).collect()
}

/// A packet of the model, for the compiler.
pub(super) fn packet_of(model: policy_model::packet::Packet) -> Packet {
    let port = model.port.map(|(protocol, port)| (protocol_of(protocol), port));
    Packet { source: model.source, destination: model.destination, port }
}

fn protocol_of(name: &str) -> Protocol {
    Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == name).unwrap()
}
