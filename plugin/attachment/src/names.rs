//! The identity of an attachment and the names that follow from it: devices, link-layer addresses, the routing table of
//! a second interface. The same attachment always has the same names, so DEL finds what ADD made with nothing stored.
//! Pure; where files of the ledger lie is not said here.

use std::net::IpAddr;

use podwire_conf::{defaults, hash};
use podwire_kernel::Mac;
use podwire_kernel::rule::Rule;

/// Which attachment: the key of all state (CNI specification, section 2, "Parameters").
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// The runtime's id of the pod.
    pub container: String,
    /// Name of the interface in the pod.
    pub interface: String,
}

/// The letters of a device name, each of which encodes five bits of a hash, and how many a name has behind its prefix.
const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const PLACES: u32 = 13;

/// The routing table of a pod's second interface is this plus the interface's index; so is its metric in the main table.
const TABLES: u32 = 113_000;

/// The priority of a pod's rules: before the main table's (32766).
const RULE_PRIORITY: u32 = 11_300;

/// Whether the rest of a device's name, behind its prefix, could be a hash.
pub(crate) fn is_device_hash(letters: &str) -> bool {
    letters.len() == PLACES as usize && letters.bytes().all(|letter| LETTERS.contains(&letter))
}

/// The name of the veth end on the host: the prefix and 13 letters for the 64 bits of the attachment's hash.
pub fn host_device(attachment: &Attachment) -> String {
    let hash = key(attachment, "device");
    #[expect(clippy::cast_possible_truncation, reason = "five bits are wanted")]
    let letter = |place: u32| char::from(LETTERS[usize::from((hash >> (place * 5)) as u8 % 32)]);
    (0..PLACES).map(letter).fold(defaults::HOST_VETH_PREFIX.to_owned(), |mut name, letter| {
        name.push(letter);
        name
    })
}

/// The beginning of the alias of every device of a network, which identifies a device that has no record.
pub fn alias_of(network: &str) -> String {
    // The kernel's limit for all of it is 255 bytes.
    format!("{}: ", &network[..network.floor_char_boundary(180)])
}

/// The link-layer address of the veth end on the host.
pub fn host_mac(attachment: &Attachment) -> Mac {
    Mac::local(key(attachment, "host address"))
}

/// The link-layer address of the veth end in the pod, unless another one is requested.
pub fn pod_mac(attachment: &Attachment) -> Mac {
    Mac::local(key(attachment, "pod address"))
}

/// The name of the ifb device on the host that shapes what a pod sends.
pub fn shaper_device(attachment: &Attachment) -> String {
    host_device(attachment).replacen(defaults::HOST_VETH_PREFIX, defaults::SHAPER_PREFIX, 1)
}

/// The link-layer address of that device.
pub fn shaper_mac(attachment: &Attachment) -> Mac {
    Mac::local(key(attachment, "shaper address"))
}

/// The routing table of a pod's second interface, by the interface's index.
pub fn table(device: u32) -> u32 {
    TABLES + device
}

/// The rule by which what is sent from an address of a pod's second interface is routed by that interface's table.
pub fn rule(source: IpAddr, device: u32) -> Rule {
    Rule { source, table: table(device), priority: RULE_PRIORITY, protocol: defaults::POD_PROTOCOL }
}

fn key(attachment: &Attachment, purpose: &str) -> u64 {
    let Attachment { network, container, interface } = attachment;
    hash::stable(&[network, container, interface, purpose])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str, interface: &str) -> Attachment {
        Attachment { network: "podwire".into(), container: container.into(), interface: interface.into() }
    }

    #[test]
    fn b6_host_names_fit_the_kernel_and_differ_by_every_part_of_the_key() {
        let long = "k".repeat(253);
        let names: std::collections::BTreeSet<_> = [
            attachment("a", "eth0"),
            attachment("a", "net1"),
            attachment("b", "eth0"),
            attachment(&format!("{long}a"), "eth0"),
            attachment(&format!("{long}b"), "eth0"),
            Attachment { network: "other".into(), ..attachment("a", "eth0") },
        ]
        .iter()
        .map(host_device)
        .collect();
        assert_eq!(names.len(), 6);
        assert!(names.iter().all(|name| name.len() == 15 && name.starts_with("pw")), "{names:?}");
        // Part of what versions agree on: an update must find what its predecessor made.
        assert_eq!(host_device(&attachment("a", "eth0")), "pw7mtgd5km6sv0f");
    }
}
