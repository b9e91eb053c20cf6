//! A ledger in a scratch directory, and short ways to reserve from it.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use podwire_conf::rules::host_ports::Protocol;
use podwire_conf::{Port, Range};

use crate::error::Result;
use crate::ipam;
use crate::ledger::directory::Ledger;
use crate::ledger::reserve::Wanted;
use crate::names::Attachment;

/// A ledger in a directory of its own, which is removed at the end of the test.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podwire-ledger-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::open(&self.0, "net").unwrap()
    }

    pub(super) fn held(&self) -> Vec<String> {
        let list = |name| fs::read_dir(self.0.join("net").join(name)).unwrap();
        list("claims")
            .chain(list("pending"))
            .chain(list("attachments"))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(super) fn attachment(container: &str) -> Attachment {
    Attachment { network: "net".into(), container: container.into(), interface: "eth0".into() }
}

pub(super) fn sets(subnets: &[&str]) -> Vec<Vec<Range>> {
    let range = |text: &&str| Range { subnet: text.parse().unwrap(), start: None, end: None, gateway: None };
    subnets.iter().map(|subnet| vec![range(subnet)]).collect()
}

/// Reserves an address of each set, on a node without foreign routes.
pub(super) fn reserve(ledger: &Ledger, name: &str, sets: &[Vec<Range>]) -> Result<Vec<IpAddr>> {
    request(ledger, name, &Wanted { sets, ..Wanted::default() })
}

pub(super) fn request(ledger: &Ledger, name: &str, wanted: &Wanted<'_>) -> Result<Vec<IpAddr>> {
    ledger.reserve(&attachment(name), wanted, &mut |_| Ok(false)).map(|record| record.addresses())
}

pub(super) fn text(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn number(address: &str) -> u128 {
    ipam::bits(address.parse().unwrap())
}

pub(super) fn port(host_address: Option<&str>, host_port: u16) -> Port {
    let host_address = host_address.map(|address| address.parse().unwrap());
    Port { protocol: Protocol::Tcp, host_address, host_port, pod_port: 80 }
}
