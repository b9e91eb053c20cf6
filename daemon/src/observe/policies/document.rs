//! The answers as documents: the types behind `podwired policy list --json` and `podwired policy explain --json`. Keys and verdicts
//! are added, never changed or taken away.
//!
//! Serde types only. What may not live here: where the values come from (`answer`), and how they are shown (`table`).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::report::named::Documented;

/// The policies that matter on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The name of the node.
    pub node: String,
    /// Whether they are in force as the API has them. Where not, those of before are listed.
    pub in_force: bool,
    /// Those that select a pod of the node, in the order of their names.
    pub policies: Vec<Listed>,
    /// How many others the cluster has.
    pub others: usize,
    /// The ClusterNetworkPolicies of the cluster, in the order in which they are asked.
    #[serde(default)]
    pub cluster_policies: Vec<ListedCluster>,
    /// The policies of the cluster that select no pod at all, as `NAMESPACE/NAME`, and ClusterNetworkPolicies as `NAME`: the first
    /// hundred.
    #[serde(default)]
    pub selecting_none: Vec<String>,
    /// The names of ports in rules that no pod declares which could be meant: the first hundred.
    #[serde(default)]
    pub undeclared_ports: Vec<UndeclaredPort>,
    /// The blocks of rules that match nothing, since they have addresses of Services only: the first hundred.
    #[serde(default)]
    pub service_blocks: Vec<ServiceBlock>,
}

/// A name of a port that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeclaredPort {
    /// The policy.
    pub policy: String,
    /// The rule, such as `ingress[0]`.
    pub rule: String,
    /// The port, such as `TCP http`.
    pub port: String,
}

/// A block of addresses that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBlock {
    /// The policy.
    pub policy: String,
    /// The rule, such as `egress[0]`.
    pub rule: String,
    /// The block, such as `10.96.0.10/32`.
    pub block: String,
}

/// A policy and the pods of the node that it selects, as `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The policy.
    pub policy: String,
    /// Whether it is not enforced (annotation `podwire.dev/audit`).
    pub audit: bool,
    /// The pods that it isolates for what they receive.
    pub ingress: Vec<String>,
    /// The pods that it isolates for what they send.
    pub egress: Vec<String>,
}

/// A ClusterNetworkPolicy and the pods of the node that it selects, as `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedCluster {
    /// The policy.
    pub policy: String,
    /// Its tier: `Admin` or `Baseline`.
    pub tier: String,
    /// Its priority in the tier: a lower one is asked first.
    pub priority: u16,
    /// Whether it is not enforced (annotation `podwire.dev/audit`).
    pub audit: bool,
    /// The pods that it has rules for what they receive.
    pub ingress: Vec<String>,
    /// The pods that it has rules for what they send.
    pub egress: Vec<String>,
    /// The fields of its rules that are not supported, such as `spec.egress[0].to[0].nodes`.
    pub unsupported: Vec<String>,
}

/// Why a packet that begins a connection passes or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The name of the node that explains.
    pub node: String,
    /// Whether the policies are in force as the API has them. Where not, those of before are explained.
    pub in_force: bool,
    /// Whether no end that this node judges denies it.
    pub allowed: bool,
    /// Where it comes from.
    pub source: Endpoint,
    /// Where it goes.
    pub destination: Endpoint,
    /// The protocol; nothing where every protocol and port is asked about.
    pub protocol: Option<String>,
    /// The destination port.
    pub port: Option<u16>,
    /// The packets that this means: one for each family that both ends have.
    pub packets: Vec<Packet>,
}

/// One end, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// As it was asked for.
    pub asked: String,
    /// The pod that it is, as `NAMESPACE/NAME`; nothing where it is none.
    pub pod: Option<String>,
    /// The node that it is on, where that is known.
    pub node: Option<String>,
}

/// A packet, and what each end says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// What the source's policies say.
    pub egress: Documented<End>,
    /// What the destination's policies say.
    pub ingress: Documented<End>,
    /// The rules of ClusterNetworkPolicies that have passed it on to the next tier: of what the source sends.
    #[serde(default)]
    pub egress_passed: Vec<ClusterRule>,
    /// And of what the destination receives.
    #[serde(default)]
    pub ingress_passed: Vec<ClusterRule>,
}

/// A rule of a ClusterNetworkPolicy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRule {
    /// The policy.
    pub policy: String,
    /// Its tier: `Admin` or `Baseline`.
    pub tier: String,
    /// Its priority in the tier.
    pub priority: u16,
    /// The rule, such as `ingress[0]`.
    pub rule: String,
    /// The name that the rule has in the policy; empty where it has none.
    pub name: String,
}

/// What one end says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum End {
    /// A rule allows it.
    Allowed {
        /// The policy.
        policy: String,
        /// The rule, such as `ingress[0]`.
        rule: String,
    },
    /// A rule of a ClusterNetworkPolicy allows it.
    Accepted(ClusterRule),
    /// A rule of a ClusterNetworkPolicy denies it.
    Refused(ClusterRule),
    /// It is allowed: a rule of a ClusterNetworkPolicy that is not enforced would deny it (annotation `podwire.dev/audit`).
    WouldRefuse(ClusterRule),
    /// These policies isolate the pod, and no rule of theirs allows it.
    Denied {
        /// The policies.
        policies: Vec<String>,
        /// What they allow between the two on other ports: the first few rules.
        others: Vec<Allowing>,
    },
    /// It is denied: the pod is attached here and its object is not known, nor therefore what policies say.
    UnknownPod,
    /// It is allowed: no policy that is enforced isolates the pod. These would if they were enforced, and would not allow it.
    WouldDeny {
        /// The policies (annotation `podwire.dev/audit`).
        policies: Vec<String>,
        /// What they would allow between the two on other ports: the first few rules.
        others: Vec<Allowing>,
    },
    /// No policy isolates the pod in this direction, and no rule of a ClusterNetworkPolicy decides.
    NotIsolated,
    /// The pod reaches itself.
    Itself,
    /// The other end is the pod's own node, which policies do not judge.
    OwnNode,
    /// It is no pod, or one with the network of its node: policies isolate pods only.
    NoPod,
    /// The pod is on another node, which judges this end.
    Elsewhere {
        /// The node.
        node: String,
    },
}

/// A rule that allows something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowing {
    /// The policy.
    pub policy: String,
    /// The rule, such as `ingress[0]`.
    pub rule: String,
    /// The ports, such as `TCP 80` and `UDP 7000-7010`.
    pub ports: Vec<String>,
}
