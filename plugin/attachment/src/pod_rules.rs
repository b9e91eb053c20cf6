//! Host ports and masquerade: what the record of a pod means in the firewall, made so, taken away, compared, and put back
//! when somebody has flushed it. The table itself is `podwire_conf`'s.

use std::collections::HashSet;
use std::path::Path;

use podwire_conf::defaults;
use podwire_conf::rules::host_ports::Mapping;
use podwire_conf::rules::{masquerade, pods};
use podwire_kernel::nft::{self, Chain, Element, Table};
use podwire_kernel::{Socket, conntrack};

use crate::error::Error;
use crate::ledger::{Ledger, Record};
use crate::names;

/// What the firewall has for one pod.
struct Translation {
    chains: Vec<Chain>,
    elements: Vec<Element>,
}

impl Translation {
    fn of(record: &Record) -> Self {
        let owner = names::host_device(&record.attachment);
        let network = &record.attachment.network;
        let mut elements: Vec<_> = mappings(record).flat_map(|mapping| mapping.elements(&owner)).collect();
        if !record.masquerade.is_empty() {
            elements.extend(record.addresses().into_iter().map(|pod| masquerade::element(network, pod, &owner)));
        }
        let chains = if record.masquerade.is_empty() {
            Vec::new()
        } else {
            vec![masquerade::chain(network, &record.masquerade)]
        };
        Self { chains, elements }
    }
}

/// Makes it so for a pod. A firewall that somebody has flushed is made whole for every pod of every network.
pub fn make(record: &Record, state: &Path) -> Result<(), Error> {
    let wanted = Translation::of(record);
    if wanted.elements.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::netfilter()?;
    let done = nft::ensure(&mut socket, &pods::table(wanted.chains), &wanted.elements)?;
    if done.table {
        make_whole(&mut socket, state)?;
    }
    forget_flows(record, &mut socket);
    Ok(())
}

/// Takes away what a pod has there. What has gone or is another's by now is left.
///
/// The answer is the socket, where one was needed: its last holder waits in closing it, some 15 ms, until no processor looks
/// at what was taken away (`nft_rcv_nl_event` of net/netfilter/nf_tables_api.c).
pub fn take_away(record: &Record) -> Result<Option<Socket>, Error> {
    let had = Translation::of(record);
    if had.elements.is_empty() {
        return Ok(None);
    }
    let mut socket = Socket::netfilter()?;
    nft::remove_elements(&mut socket, &pods::table(had.chains), &had.elements)?;
    forget_flows(record, &mut socket);
    Ok(Some(socket))
}

/// What a pod should have there and has not, as sentences.
pub fn differences(record: &Record) -> Result<Vec<String>, Error> {
    let wanted = Translation::of(record);
    if wanted.elements.is_empty() {
        return Ok(Vec::new());
    }
    let mut socket = Socket::netfilter()?;
    let table = pods::table(wanted.chains);
    let mut differences = Vec::new();
    if !nft::read(&mut socket, &table)?.is(&table) {
        differences.push(format!("table inet {} is not as podwire made it", defaults::TABLE));
    }
    let missing = nft::missing(&mut socket, &table, &wanted.elements)?;
    differences.extend(
        missing
            .iter()
            .map(|element| format!("set {} of table inet {} has lost {element}", element.set, defaults::TABLE)),
    );
    Ok(differences)
}

/// What [`restore`] has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// What was put back, each a sentence.
    pub changes: Vec<String>,
    /// Whether nobody was left out: a pod that is attached or detached just now is left to whoever does that, and may have
    /// lost something in the meantime.
    pub complete: bool,
}

/// Puts back what pods have there and somebody has taken away, for whoever looks after a node.
///
/// # Errors
/// What could not be read of the ledger, or what the kernel refused.
pub fn restore(socket: &mut Socket, state: &Path) -> Result<Restored, Error> {
    let mut restored = Restored { changes: Vec::new(), complete: true };
    let mut pods = Vec::new();
    for ledger in Ledger::all_of_this_boot(state)? {
        for record in ledger.unfinished()? {
            // One that nobody is at is a dead one's.
            restored.complete &= ledger.try_lock_attachment(&record.attachment)?.is_some();
        }
        for record in ledger.attachments()? {
            let translation = Translation::of(&ledger.with_own_addresses(record.clone())?);
            if !translation.elements.is_empty() {
                pods.push((ledger.clone(), record, translation));
            }
        }
    }
    if pods.is_empty() {
        return Ok(restored);
    }
    let (table, whole) = look(socket, &pods)?;
    let name = &table.name;
    if !whole {
        nft::ensure(socket, &table, &[])?;
        restored.changes.push(format!("set the pods' part of table inet {name}"));
    }
    let elements: Vec<_> = pods.iter().flat_map(|(_, _, translation)| translation.elements.clone()).collect();
    let missing: HashSet<_> = nft::missing(socket, &table, &elements)?.into_iter().collect();
    for (ledger, record, translation) in &pods {
        let attachment = &record.attachment;
        if !translation.elements.iter().any(|element| missing.contains(element)) {
            continue;
        }
        let Some(_turn) = ledger.try_lock_attachment(attachment)? else {
            restored.complete = false;
            continue;
        };
        // It may have gone, or come again as another one.
        if ledger.find(attachment)? != Some((record.clone(), true)) {
            continue;
        }
        let done = nft::ensure(socket, &table, &translation.elements)?;
        forget_flows(record, socket);
        let owner = names::host_device(attachment);
        restored.changes.push(format!("set {} elements of {owner} in table inet {name}", done.elements));
    }
    Ok(restored)
}

/// The table that these pods need, and whether it is there. Where pods of one network were made by different
/// configurations, each ADD makes the network's chain its own: what is there is right when it is one pod's.
fn look(socket: &mut Socket, pods: &[(Ledger, Record, Translation)]) -> Result<(Table, bool), Error> {
    let all: Vec<&Chain> = pods.iter().flat_map(|(_, _, translation)| &translation.chains).collect();
    let mut chains: Vec<Chain> = Vec::new();
    for chain in &all {
        if !chains.iter().any(|there| there.name == chain.name) {
            chains.push((*chain).clone());
        }
    }
    let found = nft::read(socket, &pods::table(chains.clone()))?;
    for chain in &mut chains {
        if let Some(there) = found.table.chains.iter().find(|there| there.name == chain.name && all.contains(there)) {
            chain.clone_from(there);
        }
    }
    let table = pods::table(chains);
    let whole = found.is(&table);
    Ok((table, whole))
}

/// Puts back what every pod of every network has there.
fn make_whole(socket: &mut Socket, state: &Path) -> Result<(), Error> {
    let (mut chains, mut elements) = (Vec::<Chain>::new(), Vec::new());
    for record in records(state)? {
        let wanted = Translation::of(&record);
        for chain in wanted.chains {
            if !chains.iter().any(|there| there.name == chain.name) {
                chains.push(chain);
            }
        }
        elements.extend(wanted.elements);
    }
    nft::ensure(socket, &pods::table(chains), &elements)?;
    // Whoever was on record a moment ago may have gone meanwhile.
    sweep(state)
}

/// Takes away what belongs to a pod that is on no record.
pub fn sweep(state: &Path) -> Result<(), Error> {
    let mut socket = Socket::netfilter()?;
    let table = pods::table(Vec::new());
    let mut elements = Vec::new();
    for set in &table.sets {
        elements.extend(nft::elements(&mut socket, &table.name, set)?);
    }
    if elements.is_empty() {
        return Ok(());
    }
    // Listed after the elements: whoever makes one is on record before.
    let owners: HashSet<_> = records(state)?.iter().map(|record| names::host_device(&record.attachment)).collect();
    elements.retain(|element| {
        let owner = element.owner.as_deref().unwrap_or_default();
        owner.starts_with(defaults::HOST_VETH_PREFIX) && !owners.contains(owner)
    });
    nft::remove_elements(&mut socket, &table, &elements)?;
    Ok(())
}

/// What every pod of every network holds.
fn records(state: &Path) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for network in Ledger::networks(state)? {
        let Some(ledger) = Ledger::existing(state, &network)? else { continue };
        for record in ledger.records()?.0 {
            records.push(ledger.with_own_addresses(record)?);
        }
    }
    Ok(records)
}

/// A datagram has no connection, so the kernel goes on translating as it did before for as long as somebody sends: what
/// it remembers of these ports is forgotten. That it could not be is no reason to fail.
fn forget_flows(record: &Record, socket: &mut Socket) {
    let flows: Vec<_> = mappings(record).filter_map(|mapping| mapping.flows()).collect();
    if flows.is_empty() {
        return;
    }
    if let Err(error) = flows.iter().try_for_each(|flows| conntrack::forget(socket, flows)) {
        eprintln!("podwire: datagrams to the host ports may go astray for a while: {error}");
    }
}

/// The host ports of a pod. One leads to the first of the pod's addresses of each family.
fn mappings(record: &Record) -> impl Iterator<Item = Mapping> {
    let addresses = record.addresses();
    let first = [true, false].map(|ipv4| addresses.iter().copied().find(|address| address.is_ipv4() == ipv4));
    first.into_iter().flatten().flat_map(|pod| {
        record.ports.iter().map(move |port| Mapping {
            protocol: port.protocol,
            host_address: port.host_address,
            host_port: port.host_port,
            pod,
            pod_port: port.pod_port,
        })
    })
}
