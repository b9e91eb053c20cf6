//! Host ports, as elements of the sets of [`crate::rules::pods`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Data, Element, Field};
use serde::{Deserialize, Serialize};

/// A port of the node that leads to a port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// The protocol of both ports.
    pub protocol: Protocol,
    /// The node's address; `None` and the unspecified address mean every local address of the pod's family.
    pub host_address: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The pod's address.
    pub pod: IpAddr,
    /// The pod's port.
    pub pod_port: u16,
}

/// The protocols that have ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number (`IPPROTO_*`, uapi/linux/in.h).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    /// Case-insensitive, as runtimes write it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(format!("{text:?} is not a protocol with ports: tcp, udp or sctp")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl Mapping {
    /// The address of the node that the port is of; `None` when it is of every local address.
    pub fn specific_address(&self) -> Option<IpAddr> {
        self.host_address.filter(|address| !address.is_unspecified())
    }

    /// The elements of the mapping, owned by `owner`: the name of the pod's host device, which distinguishes the pod
    /// from a later one with the same address. None when the host's address is of the other family.
    pub fn elements(&self, owner: &str) -> Vec<Element> {
        let version = IpVersion::of(self.pod);
        let (protocol, port) = (Field::Protocol(self.protocol.number()), Field::Port(self.host_port));
        let (set, key) = match self.host_address {
            Some(address) if IpVersion::of(address) != version => return Vec::new(),
            Some(address) if !address.is_unspecified() => {
                (by_address(version), vec![protocol, Field::Address(address), port])
            }
            _ => (any_address(version), vec![protocol, port]),
        };
        let pod = Field::Address(self.pod);
        let owner = Some(owner.to_owned());
        let data = Data::Value(vec![pod, Field::Port(self.pod_port)]);
        vec![
            Element { set, key, data, owner: owner.clone() },
            Element { set: hairpin(version), key: vec![pod, pod], data: Data::Nothing, owner },
        ]
    }
}

/// The map of host ports of one address.
pub(crate) fn by_address(version: IpVersion) -> String {
    format!("hostports-by-address{}", version.digit())
}

/// The map of host ports of every local address.
pub(crate) fn any_address(version: IpVersion) -> String {
    format!("hostports{}", version.digit())
}

/// The set of pairs (pod, same pod), for pods that reach themselves by a host port.
pub(crate) fn hairpin(version: IpVersion) -> String {
    format!("hairpin{}", version.digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mapping: &Mapping) -> Vec<String> {
        let elements = mapping.elements("pwabc");
        assert!(elements.iter().all(|element| element.owner.as_deref() == Some("pwabc")));
        elements.iter().map(|element| format!("{} {element}", element.set)).collect()
    }

    #[test]
    fn a_mapping_is_for_all_addresses_or_for_one_of_the_pods_family() {
        let address = |text: &str| text.parse().unwrap();
        let mut mapping = Mapping {
            protocol: Protocol::Tcp,
            host_address: None,
            host_port: 8080,
            pod: address("10.244.1.5"),
            pod_port: 80,
        };
        let wildcard = ["hostports4 tcp . 8080 : 10.244.1.5 . 80", "hairpin4 10.244.1.5 . 10.244.1.5"];
        assert_eq!(lines(&mapping), wildcard);
        mapping.host_address = Some(address("0.0.0.0"));
        assert_eq!(lines(&mapping), wildcard);
        mapping.host_address = Some(address("192.0.2.1"));
        assert_eq!(lines(&mapping)[0], "hostports-by-address4 tcp . 192.0.2.1 . 8080 : 10.244.1.5 . 80");
        for other in ["::", "2001:db8::1"] {
            mapping.host_address = Some(address(other));
            assert_eq!(lines(&mapping), [""; 0], "{other}");
        }
        mapping.pod = address("fd00::5");
        mapping.protocol = Protocol::Sctp;
        let specific = "hostports-by-address6 sctp . 2001:db8::1 . 8080 : fd00::5 . 80";
        assert_eq!(lines(&mapping), [specific, "hairpin6 fd00::5 . fd00::5"]);
    }

    #[test]
    fn a_protocol_is_case_insensitive() {
        assert_eq!("TCP".parse(), Ok(Protocol::Tcp));
        assert_eq!("Udp".parse(), Ok(Protocol::Udp));
        assert_eq!("sctp".parse(), Ok(Protocol::Sctp));
        let why = "\"icmp\" is not a protocol with ports: tcp, udp or sctp";
        assert_eq!("icmp".parse::<Protocol>(), Err(why.to_owned()));
    }
}
