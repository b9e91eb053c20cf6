//! The one place where an address family is told from another: IPv4 and IPv6 are written once everywhere else.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;

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
    let unspecified: IpAddr = match like {
        IpNetwork::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpNetwork::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNetwork::new(unspecified, 0).ok()
}

/// Both families, for questions that are asked of each.
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

/// `prefix` as it is written in a route: host bits cleared.
pub fn masked(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

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
