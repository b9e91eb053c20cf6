//! Reserving what an attachment is to hold: all of it, or nothing.

use std::net::IpAddr;
use std::os::unix::fs::symlink;

use ipnetwork::IpNetwork;
use podwire_conf::labels::Labels;
use podwire_conf::{Bandwidth, Port, Range};
use podwire_kernel::Mac;

use super::directory::Ledger;
use super::disk::{self, failed};
use super::free_list::FreeList;
use super::host_ports::HostPorts;
use super::layout::{encode, record_name};
use super::record::{Held, PodName, Record};
use crate::error::{Error, Kind, Result};
use crate::ipam;
use crate::log;
use crate::names::Attachment;

/// What an attachment is to hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// One address out of each set.
    pub sets: &'a [Vec<Range>],
    /// The addresses that are requested.
    pub addresses: &'a [IpAddr],
    /// The addresses that another IPAM plugin has given, instead of one out of each set.
    pub given: Option<Vec<IpAddr>>,
    /// Host ports.
    pub ports: &'a [Port],
    /// Destinations for which it is not masqueraded; empty where it never is.
    pub masquerade: Vec<IpNetwork>,
    /// Its bandwidth limits.
    pub bandwidth: Bandwidth,
    /// The link-layer address of its interface.
    pub mac: Option<Mac>,
    /// Whether the container is a sandbox that the runtime's CRI knows.
    pub sandbox: bool,
    /// The pod, as its runtime has named it.
    pub pod: Option<PodName>,
    /// The pod's labels.
    pub labels: Labels,
}

/// Whether the node already has a route to just this address. Then it is not given, even if the ledger has it as free.
pub type Routed<'a> = &'a mut dyn FnMut(IpAddr) -> Result<bool>;

impl Ledger {
    /// Reserves what an attachment that has no record is to hold.
    ///
    /// # Errors
    /// When it has one, when a set has no free address or a requested one is not available, when a host port is taken, when
    /// a file cannot be written. Then nothing is held.
    pub fn reserve(&self, attachment: &Attachment, wanted: &Wanted<'_>, routed: Routed<'_>) -> Result<Record> {
        let _lock = self.lock()?;
        if let Some((record, _)) = self.find(attachment)? {
            let details = format!("it holds {:?}: DEL comes before another ADD", record.addresses());
            return Err(Error::new(Kind::AlreadyAttached, self.sentence(attachment, "is attached already"), details));
        }
        let mut record = Record {
            attachment: attachment.clone(),
            addresses: Vec::new(),
            ports: wanted.ports.to_vec(),
            masquerade: wanted.masquerade.clone(),
            bandwidth: wanted.bandwidth,
            mac: wanted.mac,
            sandbox: wanted.sandbox,
            pod: wanted.pod.clone(),
            labels: wanted.labels.clone(),
            second_interface: None,
        };
        let mut lists = Vec::new();
        match &wanted.given {
            Some(given) => {
                record.addresses = given.iter().map(|address| Held { address: *address, set: None }).collect();
            }
            None => {
                let requested = self.requested(wanted)?;
                for (set, requested) in wanted.sets.iter().zip(requested) {
                    let (address, list) = match requested {
                        Some(address) => (address, self.take_requested(set, address, routed)?),
                        None => self.take_next(set, routed)?,
                    };
                    record.addresses.push(Held { address, set: Some(ipam::fingerprint(set)) });
                    lists.push(list);
                }
            }
        }
        let write = || -> Result<()> {
            disk::replace(&self.pending(attachment), &self.temporary(), &encode(&record)?)?;
            let holder = format!("../attachments/{}", record_name(attachment));
            for held in record.addresses.iter().filter(|held| held.set.is_some()) {
                let claim = self.claim(held.address);
                symlink(&holder, &claim).map_err(|error| failed("claim", &claim, &error))?;
            }
            HostPorts::of(&self.state).claim(&self.holder(attachment), &record.ports, &record.addresses())?;
            lists.into_iter().try_for_each(|list| list.commit(&self.temporary()))
        };
        write().inspect_err(|_| {
            // No free list was committed, so the addresses are still on them and must not be put back.
            let unlisted =
                record.addresses.iter().map(|held| Held { set: held.set.as_ref().map(|_| String::new()), ..*held });
            let undone = Record { addresses: unlisted.collect(), ..record.clone() };
            self.erase(&undone).unwrap_or_else(|error| log::note(format_args!("undo: {error}")));
        })?;
        Ok(record)
    }

    /// The requested address of each set.
    fn requested(&self, wanted: &Wanted<'_>) -> Result<Vec<Option<IpAddr>>> {
        let mut requested = vec![None; wanted.sets.len()];
        for address in wanted.addresses {
            let refuse = |why: String| {
                let message = format!("failed to allocate all requested IPs: {address}: {why}");
                Err(Error::new(Kind::AddressUnavailable, message, ""))
            };
            let of = |set: &Vec<Range>| ipam::range_of(set, *address).map(|range| range.reserved() == *address);
            match wanted.sets.iter().map(of).enumerate().find_map(|(place, of)| Some((place, of?))) {
                None => {
                    let sets: Vec<_> = wanted.sets.iter().map(|set| ipam::describe(set)).collect();
                    return refuse(format!(
                        "it is in none of the ranges of network {}: {}",
                        self.network,
                        sets.join("; ")
                    ));
                }
                Some((_, true)) => return refuse("requested ip is subnet's gateway".into()),
                Some((place, false)) => match requested[place].replace(*address) {
                    Some(other) if other != *address => {
                        return refuse(format!("{other} is requested too, and one address is given out of each set"));
                    }
                    _ => {}
                },
            }
        }
        Ok(requested)
    }

    fn take_requested(&self, set: &[Range], address: IpAddr, routed: Routed<'_>) -> Result<FreeList> {
        let refuse = |why: String| {
            let message = format!("failed to allocate all requested IPs: {address}: {why}");
            Err(Error::new(Kind::AddressUnavailable, message, ""))
        };
        if let Some(holder) = self.holder_of(address)? {
            return refuse(format!("it is held by {holder}"));
        }
        if routed(address)? {
            return refuse("a foreign route leads to it already".into());
        }
        let mut list = self.free_list(set, false)?;
        list.take(ipam::bits(address));
        Ok(list)
    }

    fn take_next(&self, set: &[Range], routed: Routed<'_>) -> Result<(IpAddr, FreeList)> {
        let mut list = self.free_list(set, false)?;
        let mut rebuilt = false;
        let mut foreign = Vec::new();
        let gives = |first: u128| {
            let address = ipam::address(set, first);
            ipam::range_of(set, address).is_some_and(|range| range.reserved() != address)
        };
        loop {
            let first = match list.first() {
                Some(first) if gives(first) && !foreign.contains(&first) => first,
                // The list is empty, or has only addresses with foreign routes: it may have lost some. Or it is damaged: an
                // address of another set was never put there.
                _ if !rebuilt => {
                    rebuilt = true;
                    list = self.free_list(set, true)?;
                    foreign.clear();
                    continue;
                }
                _ => {
                    let (name, size) = (ipam::describe(set), ipam::size(set));
                    let message = format!("no IP addresses available in range set: {name}");
                    let routed = if foreign.is_empty() {
                        String::new()
                    } else {
                        format!(", {} of them by foreign routes", foreign.len())
                    };
                    let details = format!("all {size} are held{routed}; see {}", self.directory.display());
                    return Err(Error::new(Kind::RangeFull, message, details));
                }
            };
            let address = ipam::address(set, first);
            list.take_first()?;
            if self.claim(address).symlink_metadata().is_ok() {
                // Given on request, or by an ADD that was killed before its commit: it comes back when it is released.
                continue;
            }
            if routed(address)? {
                foreign.push(first);
                list.put(first)?;
                continue;
            }
            list.given(first);
            return Ok((address, list));
        }
    }

    /// The free list of a set. It is rebuilt from the claims when there is none, or when `rebuild` is set.
    fn free_list(&self, set: &[Range], rebuild: bool) -> Result<FreeList> {
        let path = self.free(&ipam::fingerprint(set));
        let found = FreeList::open(&path)?;
        let last = found.as_ref().map_or(0, FreeList::last);
        match found {
            Some(list) if !rebuild => Ok(list),
            _ => FreeList::create(&path, &self.temporary(), &ipam::free(set, &self.claimed()?, last), last),
        }
    }
}
