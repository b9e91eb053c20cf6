//! The record of an attachment: a file format, whose keys keep their names across versions.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::labels::Labels;
use podwire_conf::{Bandwidth, Port};
use podwire_kernel::Mac;
use serde::{Deserialize, Serialize};

use crate::names::Attachment;

/// What one attachment holds and needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The attachment.
    pub attachment: Attachment,
    /// The addresses it holds.
    pub addresses: Vec<Held>,
    /// The ports of the node that are forwarded to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Destinations that its packets reach with the pod's own address; empty where it is not masqueraded at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masquerade: Vec<IpNetwork>,
    /// Limits of what it sends and receives.
    #[serde(default, skip_serializing_if = "is_unlimited")]
    pub bandwidth: Bandwidth,
    /// The link-layer address of its interface in the pod. Records of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "mac_as_text")]
    pub mac: Option<Mac>,
    /// Whether the container is a sandbox that the runtime's CRI knows.
    #[serde(default, skip_serializing_if = "is_not")]
    pub sandbox: bool,
    /// The pod, as its runtime has named it; none where the runtime knows no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// The pod's labels, as its runtime and the network's configuration give them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Where routing rules were added for it: only when it is not the first interface of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "beside")]
    pub second_interface: Option<SecondInterface>,
}

/// What a runtime calls a pod (`K8S_POD_NAMESPACE`, `K8S_POD_NAME` and `K8S_POD_UID` of `CNI_ARGS`). Kubernetes' runtimes give all
/// of it, podman the name alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace; empty where the runtime gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name; empty where the runtime gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its unique id; empty where the runtime gives none. Of a static pod it is the hash of its file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl PodName {
    /// Whether it names one pod, as an API does.
    pub fn is_complete(&self) -> bool {
        !self.namespace.is_empty() && !self.name.is_empty()
    }
}

/// The pod that has routing rules for an interface. The rules stay when the interface goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondInterface {
    /// The network namespace, by device and inode number: a path may be reused for another one.
    pub namespace: (u64, u64),
    /// The index of the interface.
    pub device: u32,
}

fn is_not(flag: &bool) -> bool {
    !flag
}

fn is_unlimited(bandwidth: &Bandwidth) -> bool {
    *bandwidth == Bandwidth::default()
}

/// A link-layer address as text.
mod mac_as_text {
    use podwire_kernel::Mac;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's own signature")]
    pub(super) fn serialize<S: Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&mac.map(|mac| mac.to_string()).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
        String::deserialize(deserializer).map(|text| Mac::parse(&text))
    }
}

/// An address that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// The free list that it goes back to; none where another IPAM plugin has given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

impl Record {
    /// The addresses, in the order of the sets.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|held| held.address).collect()
    }
}
