//! Who has which port of the node: one file for each protocol and number, for all networks, since a node has them once.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use podwire_conf::Port;
use serde::{Deserialize, Serialize};

use super::disk::{self, failed};
use crate::cni::{Code, Failure};

/// The directory beside those of the networks. No network is called so: names begin with a letter or a digit.
const DIRECTORY: &str = ".ports";

/// The host ports of the node.
pub(super) struct Ports<'a> {
    state: &'a Path,
}

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The network.
    pub network: String,
    /// The name of the attachment's record there.
    pub record: String,
}

/// A port on one address of the node, or, where that is unspecified, on all of its family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    address: IpAddr,
    holder: Holder,
}

impl<'a> Ports<'a> {
    /// The host ports of a node whose state is in a directory.
    pub(super) fn of(state: &'a Path) -> Self {
        Self { state }
    }

    /// Claims ports for a holder, whose pod has these addresses.
    ///
    /// # Errors
    /// When somebody has one of them already, by name; then none is held.
    pub(super) fn claim(&self, holder: &Holder, ports: &[Port], pod: &[IpAddr]) -> Result<(), Failure> {
        if ports.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(self.directory()).map_err(|error| failed("create", &self.directory(), &error))?;
        let _lock = disk::lock(&self.directory().join("lock"))?;
        let claim_all = || {
            // What this attachment had under an earlier record that could not be read.
            self.give_up(holder, ports)?;
            ports.iter().try_for_each(|port| {
                let mut claims = self.claims(port)?;
                // Two addresses of one family are led to by the same address of the node.
                let addresses: BTreeSet<_> = pod.iter().filter_map(|pod| port.host_address_for(*pod)).collect();
                for address in addresses {
                    if let Some(other) =
                        claims.iter().find(|claim| overlap(claim.address, address) && self.is_alive(claim, port))
                    {
                        return Err(self.taken(port, other, holder));
                    }
                    claims.retain(|claim| !overlap(claim.address, address));
                    claims.push(Claim { address, holder: holder.clone() });
                }
                self.store(port, &claims)
            })
        };
        claim_all().inspect_err(|_| {
            // The first error is the answer.
            if let Err(failure) = self.give_up(holder, ports) {
                eprintln!("podwire: undo: {failure}");
            }
        })
    }

    /// Gives up what a holder has of these ports.
    ///
    /// # Errors
    /// When a file cannot be written or removed.
    pub(super) fn release(&self, holder: &Holder, ports: &[Port]) -> Result<(), Failure> {
        if ports.is_empty() || !self.directory().exists() {
            return Ok(());
        }
        let _lock = disk::lock(&self.directory().join("lock"))?;
        self.give_up(holder, ports)
    }

    fn give_up(&self, holder: &Holder, ports: &[Port]) -> Result<(), Failure> {
        ports.iter().try_for_each(|port| {
            let mut claims = match self.claims(port) {
                Err(failure) if failure.code() == Code::Ledger as u32 => {
                    // Whoever wants the port will be told. Who had it is free to go.
                    eprintln!("podwire: {failure}");
                    return Ok(());
                }
                claims => claims?,
            };
            let before = claims.len();
            claims.retain(|claim| claim.holder != *holder);
            match claims.len() {
                after if after == before => Ok(()),
                0 => disk::remove(&self.file(port)),
                _ => self.store(port, &claims),
            }
        })
    }

    fn claims(&self, port: &Port) -> Result<Vec<Claim>, Failure> {
        let path = self.file(port);
        let Some(bytes) = disk::read(&path)? else { return Ok(Vec::new()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Code::Ledger, format!("read {}: {error}", path.display()), "remove the file to go on")
        })
    }

    fn store(&self, port: &Port, claims: &[Claim]) -> Result<(), Failure> {
        disk::replace(&self.file(port), &self.directory().join("writing"), &super::json(&claims)?)
    }

    /// Whether the holder of a claim has a record still, of this boot, and the port is on it. One that cannot be read may
    /// have it.
    fn is_alive(&self, claim: &Claim, port: &Port) -> bool {
        let network = self.state.join(&claim.holder.network);
        let of_this_boot =
            fs::read(network.join("boot")).is_ok_and(|then| fs::read(super::BOOT_ID).is_ok_and(|now| now == then));
        let of_record = |place: &str| {
            let Ok(bytes) = fs::read(network.join(place).join(&claim.holder.record)) else { return false };
            let same = |other: &Port| (other.protocol, other.host_port) == (port.protocol, port.host_port);
            serde_json::from_slice::<super::Record>(&bytes).map_or(true, |record| record.ports.iter().any(same))
        };
        of_this_boot && ["attachments", "pending"].into_iter().any(of_record)
    }

    fn taken(&self, port: &Port, claim: &Claim, asking: &Holder) -> Failure {
        let Port { protocol, host_port, .. } = port;
        let address = if claim.address.is_unspecified() { "every address" } else { &claim.address.to_string() };
        let who = if claim.holder == *asking { "this very pod".to_owned() } else { self.describe(&claim.holder) };
        let message = format!("host port {host_port}/{protocol} on {address} is taken by {who}");
        Failure::new(Code::PortTaken, message, format!("see {}", self.file(port).display()))
    }

    fn describe(&self, holder: &Holder) -> String {
        let read = |place: &str| {
            let bytes = fs::read(self.state.join(&holder.network).join(place).join(&holder.record)).ok()?;
            let record: super::Record = serde_json::from_slice(&bytes).ok()?;
            Some(format!("container {} of network {}", record.attachment.container, holder.network))
        };
        read("attachments")
            .or_else(|| read("pending"))
            .unwrap_or_else(|| format!("a pod of network {}", holder.network))
    }

    fn directory(&self) -> PathBuf {
        self.state.join(DIRECTORY)
    }

    fn file(&self, port: &Port) -> PathBuf {
        self.directory().join(format!("{}-{}", port.protocol, port.host_port))
    }
}

/// Whether two addresses of the node, each of which may be "all of its family", have one in common.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}
