//! Who has which port of the node: one file for each protocol and number, for all networks, since a node has them once.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use podwire_conf::Port;
use serde::{Deserialize, Serialize};

use super::disk::{self, failed};
use crate::error::{Error, Kind};

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
    pub(super) fn claim(&self, holder: &Holder, ports: &[Port], pod: &[IpAddr]) -> Result<(), Error> {
        if ports.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(self.directory()).map_err(|error| failed("create", &self.directory(), &error))?;
        let _lock = disk::lock(&self.directory().join("lock"))?;
        let claim_all = || {
            // What this attachment had under an earlier record that could not be read.
            self.give_up(holder, ports)?;
            ports.iter().try_for_each(|port| {
                let mut claims = read(&self.file(port))?;
                // Two addresses of one family are led to by the same address of the node.
                let addresses: BTreeSet<_> = pod.iter().filter_map(|pod| port.host_address_for(*pod)).collect();
                for address in addresses {
                    for other in claims.iter().filter(|claim| overlap(claim.address, address)) {
                        if self.is_alive(other, port)? {
                            return Err(self.taken(port, other, holder));
                        }
                    }
                    claims.retain(|claim| !overlap(claim.address, address));
                    claims.push(Claim { address, holder: holder.clone() });
                }
                self.store(&self.file(port), &claims)
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
    pub(super) fn release(&self, holder: &Holder, ports: &[Port]) -> Result<(), Error> {
        if ports.is_empty() || !disk::exists(&self.directory())? {
            return Ok(());
        }
        let _lock = disk::lock(&self.directory().join("lock"))?;
        // A holder that was killed may have been writing. Nobody is now: the lock is here.
        disk::remove(&self.writing())?;
        self.give_up(holder, ports)
    }

    /// Gives up what a network has of all ports, save for what some of its records hold.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed.
    pub(super) fn sweep(&self, network: &str, keeps: impl Fn(&str) -> bool) -> Result<(), Error> {
        if !disk::exists(&self.directory())? {
            return Ok(());
        }
        let _lock = disk::lock(&self.directory().join("lock"))?;
        disk::remove(&self.writing())?;
        let names = disk::list(&self.directory())?;
        names.iter().filter(|name| name.contains('-')).try_for_each(|name| {
            let stays = |holder: &Holder| holder.network != network || keeps(&holder.record);
            self.reduce(&self.directory().join(name), stays)
        })
    }

    fn give_up(&self, holder: &Holder, ports: &[Port]) -> Result<(), Error> {
        ports.iter().try_for_each(|port| self.reduce(&self.file(port), |other| other != holder))
    }

    /// Leaves those holders in a file that stay.
    fn reduce(&self, path: &Path, stays: impl Fn(&Holder) -> bool) -> Result<(), Error> {
        let mut claims = match read(path) {
            Err(failure) if failure.kind() == Kind::Damaged => {
                // Whoever wants the port will be told. Who had it is free to go.
                eprintln!("podwire: {failure}");
                return Ok(());
            }
            claims => claims?,
        };
        let before = claims.len();
        claims.retain(|claim| stays(&claim.holder));
        match claims.len() {
            after if after == before => Ok(()),
            0 => disk::remove(path),
            _ => self.store(path, &claims),
        }
    }

    fn store(&self, path: &Path, claims: &[Claim]) -> Result<(), Error> {
        disk::replace(path, &self.writing(), &super::json(&claims)?).map(drop)
    }

    /// Whether the holder of a claim has a record still, of this boot, and the port is on it. One that cannot be read may
    /// have it.
    fn is_alive(&self, claim: &Claim, port: &Port) -> Result<bool, Error> {
        let network = self.state.join(&claim.holder.network);
        if disk::read(&network.join("boot"))? != Some(super::boot()?) {
            return Ok(false);
        }
        let same = |other: &Port| (other.protocol, other.host_port) == (port.protocol, port.host_port);
        for place in super::PLACES {
            if let Some(bytes) = disk::read(&network.join(place).join(&claim.holder.record))?
                && serde_json::from_slice::<super::Record>(&bytes).map_or(true, |record| record.ports.iter().any(same))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn taken(&self, port: &Port, claim: &Claim, asking: &Holder) -> Error {
        let Port { protocol, host_port, .. } = port;
        let address = if claim.address.is_unspecified() { "every address" } else { &claim.address.to_string() };
        let who = if claim.holder == *asking { "this very pod".to_owned() } else { self.describe(&claim.holder) };
        let message = format!("host port {host_port}/{protocol} on {address} is taken by {who}");
        Error::new(Kind::PortTaken, message, format!("see {}", self.file(port).display()))
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

    fn writing(&self) -> PathBuf {
        self.directory().join("writing")
    }

    fn file(&self, port: &Port) -> PathBuf {
        self.directory().join(format!("{}-{}", port.protocol, port.host_port))
    }
}

/// The claims in a file; none where there is no file.
fn read(path: &Path) -> Result<Vec<Claim>, Error> {
    let Some(bytes) = disk::read(path)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(Kind::Damaged, format!("read {}: {error}", path.display()), "remove the file to go on")
    })
}

/// Whether two addresses of the node, each of which may be "all of its family", have one in common.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}
