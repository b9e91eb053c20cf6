//! `ipMasq`: packets of a network's pods to the outside are masqueraded. A chain for each network, and elements of the
//! maps of [`crate::rules::pods`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Chain, Data, Element, Field, Rule};

use crate::hash;

/// The longest network name that is part of a chain's name in full. The kernel allows 255 bytes, and a network's name alone
/// may have as many.
const NAME: usize = 200;

/// The chain of a network: packets to its own prefixes and multicast are not translated, all others are masqueraded.
pub fn chain(network: &str, prefixes: &[IpNetwork]) -> Chain {
    // RFC 5771, section 3; RFC 4291, section 2.7.
    let multicast =
        [prefix(Ipv4Addr::new(224, 0, 0, 0).into(), 4), prefix(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8)];
    let stay = prefixes.iter().copied().chain(multicast).map(|prefix| Rule::new().to(prefix).return_());
    let rules = stay.chain([Rule::new().masquerade()]).collect();
    Chain { name: chain_name(network), base: None, rules }
}

/// The element that makes a pod masqueraded, owned by `owner` as in [`crate::rules::host_ports::Mapping::elements`].
pub fn element(network: &str, pod: IpAddr, owner: &str) -> Element {
    Element {
        set: map(IpVersion::of(pod)),
        key: vec![Field::Address(pod)],
        data: Data::Jump(chain_name(network)),
        owner: Some(owner.into()),
    }
}

/// The verdict map of pods.
pub(crate) fn map(version: IpVersion) -> String {
    format!("masquerade{}", version.digit())
}

/// A longer name is truncated and followed by its hash, at a length that no name in full has.
fn chain_name(network: &str) -> String {
    if network.len() <= NAME {
        return format!("masquerade-{network}");
    }
    let beginning: String = network.chars().filter(char::is_ascii).take(NAME).collect();
    format!("masquerade-{beginning:_<NAME$}-{:016x}", hash::stable(&[network]))
}

/// A prefix from a constant.
pub(crate) fn prefix(address: IpAddr, length: u8) -> IpNetwork {
    IpNetwork::new(address, length).unwrap_or_else(|_| IpNetwork::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_network_names_have_separate_chains() {
        assert_eq!(chain_name("podwire"), "masquerade-podwire");
        let long = |last: &str| format!("{}{last}", "n".repeat(252));
        let (one, other) = (chain_name(&long("a")), chain_name(&long("b")));
        assert_ne!(one, other);
        assert!(one.len() <= 255, "{}", one.len());
        let short = one.strip_prefix("masquerade-").unwrap();
        assert_ne!(chain_name(short), one, "a network with the name of another network's chain");
        assert_eq!(chain_name(&"n".repeat(200)).len(), 211);
    }

    #[test]
    fn a_pods_element_leads_to_the_chain_of_its_network() {
        let element = element("podwire", "10.244.1.5".parse().unwrap(), "pwabc");
        let line = format!("{} {element} {:?}", element.set, element.owner);
        assert_eq!(line, "masquerade4 10.244.1.5 : jump masquerade-podwire Some(\"pwabc\")");
        let prefixes = ["10.244.0.0/16".parse().unwrap()];
        assert_eq!(chain("podwire", &prefixes).name, "masquerade-podwire");
        assert_eq!(chain("podwire", &prefixes).rules.len(), 4);
    }
}
