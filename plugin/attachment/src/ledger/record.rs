//! What is known of an attachment, as its record says it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::{Bandwidth, Port};
use podwire_kernel::Mac;
use serde::{Deserialize, Serialize};

use crate::names::Attachment;

/// What is known of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub attachment: Attachment,
    /// The addresses it holds.
    pub addresses: Vec<Held>,
    /// The ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Where what it sends does not leave under the node's address; empty where nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masquerade: Vec<IpNetwork>,
    /// How fast it may send and receive.
    #[serde(default, skip_serializing_if = "is_unlimited")]
    pub bandwidth: Bandwidth,
    /// The link-layer address of its interface in the pod. Records of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "mac_as_text")]
    pub mac: Option<Mac>,
    /// Whether the container is a sandbox that the runtime's CRI knows.
    #[serde(default, skip_serializing_if = "is_not")]
    pub sandbox: bool,
    /// Where rules were made for it, when it is not the first interface of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
}

/// The pod that has rules for an interface: rules do not go when the interface does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The network namespace, by device and inode number: a path may come to name another one.
    pub namespace: (u64, u64),
    /// Index of the interface.
    pub device: u32,
}

fn is_not(flag: &bool) -> bool {
    !flag
}

fn is_unlimited(bandwidth: &Bandwidth) -> bool {
    *bandwidth == Bandwidth::default()
}

/// A link-layer address as humans write it.
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
    /// The queue of free addresses that it goes back to; none where it is another plugin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

impl Record {
    /// The addresses, in the order of the sets.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|held| held.address).collect()
    }
}
