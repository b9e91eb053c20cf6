//! Reserving what an attachment is to hold: all of it, or nothing.

use std::net::IpAddr;
use std::os::unix::fs::symlink;

use ipnetwork::IpNetwork;
use podwire_conf::{Bandwidth, Port, Range};
use podwire_kernel::Mac;

use super::disk::{self, failed};
use super::record::{Held, Record};
use super::{Ledger, hash_name, json};
use crate::error::{Error, Kind};
use crate::ipam;
use crate::ledger::free_list::Free;
use crate::ledger::host_ports::Ports;
use crate::names::Attachment;

/// What an attachment is to hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// One address out of each set.
    pub sets: &'a [Vec<Range>],
    /// Addresses that it is to be.
    pub addresses: &'a [IpAddr],
    /// Addresses that another plugin has given, in place of the sets.
    pub given: Option<Vec<IpAddr>>,
    /// Ports of the node.
    pub ports: &'a [Port],
    /// Where it is not masqueraded; empty where it never is.
    pub masquerade: Vec<IpNetwork>,
    /// Its limits.
    pub bandwidth: Bandwidth,
    /// The link-layer address of its interface.
    pub mac: Option<Mac>,
    /// Whether it is of a sandbox that the runtime's CRI knows.
    pub sandbox: bool,
}

/// Whether somebody routes an address already: then it is not given, whatever the ledger says.
pub type Routed<'a> = &'a mut dyn FnMut(IpAddr) -> Result<bool, Error>;

impl Ledger {
    /// Reserves what an attachment that has no record is to hold.
    ///
    /// # Errors
    /// When it has one, when a set has no free address or a wished one cannot be had, when a host port is taken, when a
    /// file cannot be written; then nothing is held.
    pub fn reserve(&self, attachment: &Attachment, wanted: &Wanted<'_>, routed: Routed<'_>) -> Result<Record, Error> {
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
            beside: None,
        };
        let mut queues = Vec::new();
        match &wanted.given {
            Some(given) => {
                record.addresses = given.iter().map(|address| Held { address: *address, set: None }).collect();
            }
            None => {
                let wishes = self.wishes(wanted)?;
                for (set, wish) in wanted.sets.iter().zip(wishes) {
                    let (address, queue) = match wish {
                        Some(address) => (address, self.take_wished(set, address, routed)?),
                        None => self.take_next(set, routed)?,
                    };
                    record.addresses.push(Held { address, set: Some(ipam::fingerprint(set)) });
                    queues.push(queue);
                }
            }
        }
        let write = || -> Result<(), Error> {
            disk::replace(&self.pending(attachment), &self.beside(), &json(&record)?)?;
            let holder = format!("../attachments/{}", hash_name(attachment));
            for held in record.addresses.iter().filter(|held| held.set.is_some()) {
                let claim = self.claim(held.address);
                symlink(&holder, &claim).map_err(|error| failed("claim", &claim, &error))?;
            }
            Ports::of(&self.state).claim(&self.holder(attachment), &record.ports, &record.addresses())?;
            queues.into_iter().try_for_each(|queue| queue.commit(&self.beside()))
        };
        write().inspect_err(|_| {
            // No queue was told that its address is taken, so none has to be told that it is free.
            let unqueued =
                record.addresses.iter().map(|held| Held { set: held.set.as_ref().map(|_| String::new()), ..*held });
            let undone = Record { addresses: unqueued.collect(), ..record.clone() };
            self.erase(&undone).unwrap_or_else(|error| eprintln!("podwire: undo: {error}"));
        })?;
        Ok(record)
    }

    /// Which set each wished address is of.
    fn wishes(&self, wanted: &Wanted<'_>) -> Result<Vec<Option<IpAddr>>, Error> {
        let mut wishes = vec![None; wanted.sets.len()];
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
                Some((place, false)) => match wishes[place].replace(*address) {
                    Some(other) if other != *address => {
                        return refuse(format!("{other} is requested too, and one address is given out of each set"));
                    }
                    _ => {}
                },
            }
        }
        Ok(wishes)
    }

    fn take_wished(&self, set: &[Range], address: IpAddr, routed: Routed<'_>) -> Result<Free, Error> {
        let refuse = |why: String| {
            let message = format!("failed to allocate all requested IPs: {address}: {why}");
            Err(Error::new(Kind::AddressUnavailable, message, ""))
        };
        if let Some(holder) = self.holder_of(address)? {
            return refuse(format!("it is held by {holder}"));
        }
        if routed(address)? {
            return refuse("somebody routes it already".into());
        }
        let mut queue = self.queue(set, false)?;
        queue.take(ipam::bits(address));
        Ok(queue)
    }

    fn take_next(&self, set: &[Range], routed: Routed<'_>) -> Result<(IpAddr, Free), Error> {
        let mut queue = self.queue(set, false)?;
        let mut anew = false;
        let mut passed = Vec::new();
        let gives = |first: u128| {
            let address = ipam::address(set, first);
            ipam::range_of(set, address).is_some_and(|range| range.reserved() != address)
        };
        loop {
            let first = match queue.first() {
                Some(first) if gives(first) && !passed.contains(&first) => first,
                // Nothing left but what strangers route, or nothing at all: an address may have got lost. Or the queue
                // is damaged: no address of another set was ever put there.
                _ if !anew => {
                    anew = true;
                    queue = self.queue(set, true)?;
                    passed.clear();
                    continue;
                }
                _ => {
                    let (name, size) = (ipam::describe(set), ipam::size(set));
                    let message = format!("no IP addresses available in range set: {name}");
                    let strangers = if passed.is_empty() {
                        String::new()
                    } else {
                        format!(", {} of them by strangers", passed.len())
                    };
                    let details = format!("all {size} are held{strangers}; see {}", self.directory.display());
                    return Err(Error::new(Kind::RangeFull, message, details));
                }
            };
            let address = ipam::address(set, first);
            queue.take_first()?;
            if self.claim(address).symlink_metadata().is_ok() {
                // Taken by wish, or by an ADD that was killed before it said so: it comes back when it is released.
                continue;
            }
            if routed(address)? {
                passed.push(first);
                queue.put(first)?;
                continue;
            }
            queue.given(first);
            return Ok((address, queue));
        }
    }

    /// The free addresses of a set; made anew when there is no such queue yet, or when that is wanted.
    fn queue(&self, set: &[Range], anew: bool) -> Result<Free, Error> {
        let path = self.free(&ipam::fingerprint(set));
        let found = Free::open(&path)?;
        let last = found.as_ref().map_or(0, Free::last);
        match found {
            Some(queue) if !anew => Ok(queue),
            _ => Free::create(&path, &self.beside(), &ipam::free(set, &self.claimed()?, last), last),
        }
    }
}
