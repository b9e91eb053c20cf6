//! Host ports: which attachment holds which port of the node. One file for each protocol and port, for all networks, since
//! a node has each port only once.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use podwire_conf::Port;
use serde::{Deserialize, Serialize};

use super::disk::{self, failed};
use super::layout::{ATTACHMENTS, BOOT, PENDING, PLACES, boot, encode};
use super::record::Record;
use crate::error::{Error, Kind, Result};
use crate::log;

/// The directory beside those of the networks. No network has this name: names begin with a letter or a digit.
const DIRECTORY: &str = ".ports";

/// The host ports of the node.
pub(super) struct HostPorts<'a> {
    state: &'a Path,
}

/// The holder of a port.
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

impl<'a> HostPorts<'a> {
    /// The host ports of the node, by its state directory.
    pub(super) fn of(state: &'a Path) -> Self {
        Self { state }
    }

    /// Claims ports for a holder whose pod has these addresses.
    ///
    /// # Errors
    /// The holder of a port that is taken; then none is claimed.
    pub(super) fn claim(&self, holder: &Holder, ports: &[Port], pod: &[IpAddr]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(self.directory()).map_err(|error| failed("create", &self.directory(), &error))?;
        let _lock = disk::lock(&self.directory().join("lock"))?;
        let claim_all = || {
            // An earlier record of this attachment could not be read, and may have left claims.
            self.drop_claims(holder, ports)?;
            ports.iter().try_for_each(|port| {
                let mut claims = read(&self.file(port))?;
                // Two pod addresses of one family share the address of the node.
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
            // The first error is returned.
            if let Err(error) = self.drop_claims(holder, ports) {
                log::note(format_args!("undo: {error}"));
            }
        })
    }

    /// Releases what a holder has of these ports.
    ///
    /// # Errors
    /// When a file cannot be written or removed.
    pub(super) fn release(&self, holder: &Holder, ports: &[Port]) -> Result<()> {
        if ports.is_empty() || !disk::exists(&self.directory())? {
            return Ok(());
        }
        let _lock = disk::lock(&self.directory().join("lock"))?;
        // Left by a process that was killed while writing. No other process writes now: the lock is held here.
        disk::discard(&self.temporary())?;
        self.drop_claims(holder, ports)
    }

    /// Releases all ports of a network, except those of records for which `keeps` is true.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed.
    pub(super) fn sweep(&self, network: &str, keeps: impl Fn(&str) -> bool) -> Result<()> {
        if !disk::exists(&self.directory())? {
            return Ok(());
        }
        let _lock = disk::lock(&self.directory().join("lock"))?;
        disk::discard(&self.temporary())?;
        let names = disk::list(&self.directory())?;
        names.iter().filter(|name| name.contains('-')).try_for_each(|name| {
            let stays = |holder: &Holder| holder.network != network || keeps(&holder.record);
            self.retain(&self.directory().join(name), stays)
        })
    }

    fn drop_claims(&self, holder: &Holder, ports: &[Port]) -> Result<()> {
        ports.iter().try_for_each(|port| self.retain(&self.file(port), |other| other != holder))
    }

    /// Removes the claims of holders for which `stays` is false from a file.
    fn retain(&self, path: &Path, stays: impl Fn(&Holder) -> bool) -> Result<()> {
        let mut claims = match read(path) {
            Err(error) if error.kind() == Kind::Damaged => {
                // A damaged file must not stop a release. The next claim of this port fails with the same error.
                log::note(format_args!("{error}"));
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

    fn store(&self, path: &Path, claims: &[Claim]) -> Result<()> {
        disk::replace(path, &self.temporary(), &encode(&claims)?).map(drop)
    }

    /// Whether the holder of a claim still has a record of this boot with the port on it. A record that cannot be read
    /// counts as one with the port.
    fn is_alive(&self, claim: &Claim, port: &Port) -> Result<bool> {
        let network = self.state.join(&claim.holder.network);
        if disk::read(&network.join(BOOT))?.as_deref() != Some(boot()?) {
            return Ok(false);
        }
        let same = |other: &Port| (other.protocol, other.host_port) == (port.protocol, port.host_port);
        for place in PLACES {
            if let Some(bytes) = disk::read(&network.join(place).join(&claim.holder.record))?
                && serde_json::from_slice::<Record>(&bytes).map_or(true, |record| record.ports.iter().any(same))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn taken(&self, port: &Port, claim: &Claim, asking: &Holder) -> Error {
        let Port { protocol, host_port, .. } = port;
        let address = if claim.address.is_unspecified() { "every address" } else { &claim.address.to_string() };
        let who = if claim.holder == *asking { "this pod itself".to_owned() } else { self.describe(&claim.holder) };
        let message = format!("host port {host_port}/{protocol} on {address} is taken by {who}");
        Error::new(Kind::PortTaken, message, format!("see {}", self.file(port).display()))
    }

    fn describe(&self, holder: &Holder) -> String {
        let read = |place: &str| {
            let bytes = disk::read(&self.state.join(&holder.network).join(place).join(&holder.record)).ok()??;
            let record: Record = serde_json::from_slice(&bytes).ok()?;
            Some(format!("container {} of network {}", record.attachment.container, holder.network))
        };
        read(ATTACHMENTS).or_else(|| read(PENDING)).unwrap_or_else(|| format!("a pod of network {}", holder.network))
    }

    fn directory(&self) -> PathBuf {
        self.state.join(DIRECTORY)
    }

    fn temporary(&self) -> PathBuf {
        self.directory().join("writing")
    }

    fn file(&self, port: &Port) -> PathBuf {
        self.directory().join(format!("{}-{}", port.protocol, port.host_port))
    }
}

/// The claims in a file; none if it does not exist.
fn read(path: &Path) -> Result<Vec<Claim>> {
    let Some(bytes) = disk::read(path)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(Kind::Damaged, format!("read {}: {error}", path.display()), "remove the file to go on")
    })
}

/// Whether two addresses of the node overlap. An unspecified address stands for all of its family.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}
