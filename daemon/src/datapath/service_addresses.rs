//! The addresses of this node that are there only for Services. kube-proxy in IPVS mode has all of them on `kube-ipvs0`,
//! a DNS cache of the node has its own on `nodelocaldns`: whole addresses on devices that lead nowhere.
//!
//! What is not here: what follows from them (`podwire_conf::rules`). Virtual IPs on other devices are no matter: their
//! Services translate, and come first.

use std::net::IpAddr;

use podwire_kernel::address::{self, Address};
use podwire_kernel::link;
use podwire_kernel::{Result, Socket};

use crate::cluster::view::{Peer, View};

/// Kinds of devices that lead nowhere.
const KINDS: [&str; 2] = ["dummy", "ifb"];

/// The addresses that were there at the last look.
pub(crate) struct ServiceAddresses {
    socket: Socket,
    addresses: Vec<IpAddr>,
}

impl ServiceAddresses {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { socket: Socket::route()?, addresses: Vec::new() })
    }

    /// Asks the kernel again.
    pub(crate) fn read(&mut self, view: &View) -> Result<()> {
        let mut addresses = Vec::new();
        for kind in KINDS {
            for link in link::list_of_kind(&mut self.socket, kind)? {
                match address::list(&mut self.socket, Some(link.index)) {
                    // It has gone since.
                    Err(error) if error.is_gone() => {}
                    found => addresses.extend(of_services(&found?, &view.own)),
                }
            }
        }
        addresses.sort_unstable();
        self.addresses = addresses;
        Ok(())
    }

    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

/// Those that are no subnet's, and not the node's own: where routing protocols run on the host, its addresses are on such a
/// device, and the membership lists those of both families.
fn of_services(addresses: &[Address], own: &Peer) -> impl Iterator<Item = IpAddr> {
    let whole = |address: &&Address| address.address.prefix() == if address.address.is_ipv4() { 32 } else { 128 };
    let ips = addresses.iter().filter(whole).map(|address| address.address.ip());
    ips.filter(move |address| *address != own.address && !own.addresses.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Membership;

    #[test]
    fn whole_addresses_that_are_not_the_nodes_own_are_of_services() {
        let there = [
            "10.96.0.1/32",
            "10.0.0.1/24",
            "192.168.50.1/32",
            "fd00:96::1/128",
            "fd00::1/64",
            "fe80::1/64",
            "fd00:192:168:50::1/128",
        ];
        let addresses = there.map(|text| Address { device: 7, address: text.parse().unwrap() });
        let membership = Membership::parse(include_str!("../../../conf/nodes.toml")).unwrap();
        let mut own = View::new(&membership, "node-1").unwrap().own;
        own.addresses = vec!["fd00:192:168:50::1".parse().unwrap()];
        let found: Vec<_> = of_services(&addresses, &own).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["10.96.0.1", "fd00:96::1"]);
    }
}
