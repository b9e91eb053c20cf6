//! The addresses of the node that are there only for Services: host ports of every local address leave them out. The
//! plugin's rules look into the sets, the daemon keeps their elements.

use std::net::IpAddr;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Content, Entries, Field, Set, Type};

/// Prefix of the names of the sets.
pub(crate) const SETS: &str = "service-addresses";

/// The set of a version of IP.
pub(crate) fn set(version: IpVersion) -> Set {
    let name = format!("{SETS}{}", version.digit());
    Set { name, key: vec![Type::Address(version)], content: Content::Nothing }
}

/// The sets with these addresses.
pub(crate) fn keys(addresses: &[IpAddr]) -> [Entries; 2] {
    IpVersion::BOTH.map(|version| {
        let own = addresses.iter().filter(|address| IpVersion::of(**address) == version);
        Entries::keys(set(version), own.map(|address| [Field::Address(*address)]))
    })
}
