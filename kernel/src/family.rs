//! Address families. Code that differs between IPv4 and IPv6 is here; everything else is written once for both.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;

/// A version of the internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// Both versions.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The version of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The netlink family of its messages.
    pub fn family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }

    /// Length of an address, in bytes.
    pub fn address_length(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// The digit that names of per-family objects end with.
    pub fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    /// The unspecified address: 0.0.0.0 or ::.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Reads an address from bytes in network order; `None` when the length does not match.
    pub fn address(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            Self::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    }
}

/// The netlink family of an address.
pub fn of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The prefix of a single address: /32 or /128.
pub fn host(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

/// The prefix of all addresses of a prefix's family: 0.0.0.0/0 or ::/0.
pub fn everything(like: IpNetwork) -> Option<IpNetwork> {
    IpNetwork::new(IpVersion::of(like.ip()).unspecified(), 0).ok()
}

/// Prefixes that no node and no pod can have addresses in: this host and network, loopback, link-local, multicast,
/// reserved and broadcast (RFC 6890, tables 1 to 20; RFC 4291, section 2.4).
pub fn reserved() -> impl Iterator<Item = IpNetwork> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let four = [([0, 0, 0, 0], 8), ([127, 0, 0, 0], 8), ([169, 254, 0, 0], 16), ([224, 0, 0, 0], 3)];
    let six = [
        (Ipv6Addr::UNSPECIFIED, 127),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
        (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    ];
    let four = four.map(|(address, prefix)| (IpAddr::V4(Ipv4Addr::from(address)), prefix));
    let six = six.map(|(address, prefix)| (IpAddr::V6(address), prefix));
    four.into_iter().chain(six).filter_map(|(address, prefix)| IpNetwork::new(address, prefix).ok())
}

/// Both families.
pub const BOTH: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// The bytes of an address in network order: 4 or 16.
pub fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Whether every address of `inner` is in `outer` (of the same family).
pub fn contains(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

/// Whether two prefixes share an address.
pub fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    contains(one, other) || contains(other, one)
}

/// The prefix with its host bits cleared.
pub fn masked(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_prefixes_cover_what_no_node_can_have() {
        let is_reserved = |text: &str| reserved().any(|prefix| prefix.contains(text.parse().unwrap()));
        for reserved_address in [
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(is_reserved(reserved_address), "{reserved_address}");
        }
        for usable_address in ["10.0.0.1", "192.168.0.1", "198.51.100.1", "fd00::1", "2001:db8::1"] {
            assert!(!is_reserved(usable_address), "{usable_address}");
        }
    }

    #[test]
    fn prefixes_contain_and_overlap_within_their_family_only() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        assert!(contains(net("10.0.0.0/8"), net("10.1.0.0/16")));
        assert!(!contains(net("10.1.0.0/16"), net("10.0.0.0/8")));
        assert!(overlap(net("10.1.0.0/16"), net("10.0.0.0/8")));
        assert!(!overlap(net("10.1.0.0/16"), net("10.2.0.0/16")));
        assert!(!overlap(net("0.0.0.0/0"), net("::/0")));
    }
}
