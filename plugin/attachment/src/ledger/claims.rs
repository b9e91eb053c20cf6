//! Claims: which address is whose. A claim is a link to the record of its holder.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;

use podwire_conf::Bandwidth;
use podwire_conf::labels::Labels;

use super::directory::Ledger;
use super::disk::{self, failed};
use super::free_list::FreeList;
use super::layout::{CLAIMS, PLACES, is_record_name, record_name};
use super::record::{Held, Record};
use crate::error::Result;
use crate::ipam;
use crate::names::Attachment;

impl Ledger {
    /// Whether an address of a family is held.
    ///
    /// # Errors
    /// When the claims cannot be listed.
    pub fn has_claims(&self, ipv4: bool) -> Result<bool> {
        Ok(self.claimed()?.iter().any(|address| address.is_ipv4() == ipv4))
    }

    /// A record as the claims tell it, in place of one that cannot be read.
    pub(super) fn by_claims(&self, attachment: &Attachment) -> Result<Record> {
        let held = |address| Held { address, set: Some(String::new()) };
        let addresses = self.claims_of(&record_name(attachment))?.into_iter().map(held).collect();
        let attachment = attachment.clone();
        Ok(Record {
            attachment,
            addresses,
            ports: Vec::new(),
            masquerade: Vec::new(),
            bandwidth: Bandwidth::default(),
            mac: None,
            sandbox: false,
            pod: None,
            labels: Labels::new(),
            second_interface: None,
        })
    }

    /// The addresses that are claimed.
    ///
    /// # Errors
    /// When the claims cannot be listed.
    pub fn claimed(&self) -> Result<Vec<IpAddr>> {
        let names = disk::list(&self.directory.join(CLAIMS))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn claims_of(&self, name: &str) -> Result<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for address in self.claimed()? {
            if self.claimant(address)?.is_some_and(|holder| holder == name) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// The name of the record that a claim leads to; `None` when there is no claim, or one that leads nowhere.
    pub(super) fn claimant(&self, address: IpAddr) -> Result<Option<String>> {
        let claim = self.claim(address);
        match fs::read_link(&claim) {
            Ok(target) => {
                let name = target.file_name().and_then(|name| name.to_str());
                Ok(name.filter(|name| is_record_name(name)).map(str::to_owned))
            }
            // `InvalidInput`: it is not a link.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(None),
            Err(error) => Err(failed("read", &claim, &error)),
        }
    }

    /// The holder of an address, for messages.
    pub(super) fn holder_of(&self, address: IpAddr) -> Result<Option<String>> {
        let Some(name) = self.claimant(address)? else {
            let damaged = self.claim(address).symlink_metadata().is_ok();
            return Ok(damaged.then(|| "a claim that leads to no record: GC removes it".into()));
        };
        for place in PLACES {
            let found = disk::read(&self.directory.join(place).join(&name))?;
            if let Some(record) = found.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) {
                return Ok(Some(format!("container {}", record.attachment.container)));
            }
        }
        Ok(Some(format!("record {name}")))
    }

    /// Whether an attachment has a claim on an address.
    ///
    /// # Errors
    /// When the claim cannot be read.
    pub fn holds(&self, attachment: &Attachment, address: IpAddr) -> Result<bool> {
        Ok(self.claimant(address)?.is_some_and(|holder| holder == record_name(attachment)))
    }

    /// Puts an address at the end of the free list of its set.
    pub(super) fn put_back(&self, set: &str, address: IpAddr) -> Result<()> {
        // Empty where the record is rebuilt from claims. A damaged record must not lead to a file in another directory.
        if set.is_empty() || !set.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        let Some(mut list) = FreeList::open(&self.free(set))? else { return Ok(()) };
        list.put(ipam::bits(address))?;
        list.commit(&self.temporary())
    }
}
