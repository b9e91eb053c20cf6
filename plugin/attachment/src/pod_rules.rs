//! Host ports and masquerade of pods in nftables, as their records say: applied, removed, compared, and restored when
//! another program has flushed them. The table itself is defined in `podwire_conf`; rules of the node are the daemon's.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::Path;

use podwire_conf::defaults;
use podwire_conf::rules::host_ports::Mapping;
use podwire_conf::rules::{masquerade, pods};
use podwire_kernel::Socket;
use podwire_kernel::nft::{self, Chain, Element, Table};

use crate::error::Result;
use crate::host_port_flows::{self, Change};
use crate::ledger::{Ledger, Record};
use crate::log;
use crate::names;

/// The chains and elements of one pod.
struct PodRules {
    chains: Vec<Chain>,
    elements: Vec<Element>,
}

impl PodRules {
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

/// Applies the rules of a pod. If the table is missing, the rules of every pod of every network are restored.
///
/// # Errors
/// What the kernel refused, or what could not be read of the ledger.
pub fn apply(record: &Record, state: &Path) -> Result<()> {
    let wanted = PodRules::of(record);
    if wanted.elements.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::netfilter()?;
    let done = nft::ensure(&mut socket, &pods::table(wanted.chains), &wanted.elements)?;
    if done.table {
        restore_all(&mut socket, state)?;
    }
    forget_flows(record, Change::Added, &mut socket);
    Ok(())
}

/// Removes the rules of a pod. Elements that have gone or that belong to another pod by now are left alone.
///
/// Returns the socket, if one was needed. The process that closes it last waits some 15 ms, until no processor uses
/// what was removed (`nft_rcv_nl_event` of net/netfilter/nf_tables_api.c).
///
/// # Errors
/// What the kernel refused.
pub fn remove(record: &Record) -> Result<Option<Socket>> {
    let rules = PodRules::of(record);
    if rules.elements.is_empty() {
        return Ok(None);
    }
    let mut socket = Socket::netfilter()?;
    nft::remove_elements(&mut socket, &pods::table(rules.chains), &rules.elements)?;
    forget_flows(record, Change::Removed, &mut socket);
    Ok(Some(socket))
}

/// What of a pod's rules is missing or differs, as sentences.
///
/// # Errors
/// When the table cannot be read.
pub fn differences(record: &Record) -> Result<Vec<String>> {
    let wanted = PodRules::of(record);
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

/// What [`restore`] has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// What was restored, each a sentence.
    pub changes: Vec<String>,
    /// Whether every pod was examined. A pod whose ADD or DEL is running is skipped, and may have lost something.
    pub complete: bool,
}

/// Restores rules of pods that another program has removed, on behalf of the daemon.
///
/// # Errors
/// What could not be read of the ledger, or what the kernel refused.
pub fn restore(socket: &mut Socket, state: &Path) -> Result<Restored> {
    let mut restored = Restored { changes: Vec::new(), complete: true };
    let mut pods = Vec::new();
    for ledger in Ledger::all_of_this_boot(state)? {
        for record in ledger.unfinished()? {
            // If the lock is free, its ADD was killed, and there is nothing to restore.
            restored.complete &= ledger.try_lock_attachment(&record.attachment)?.is_some();
        }
        for record in ledger.attachments()? {
            let rules = PodRules::of(&ledger.with_own_addresses(record.clone())?);
            if !rules.elements.is_empty() {
                pods.push((ledger.clone(), record, rules));
            }
        }
    }
    if pods.is_empty() {
        return Ok(restored);
    }
    let (table, complete) = read_table(socket, &pods)?;
    let name = &table.name;
    if !complete {
        nft::ensure(socket, &table, &[])?;
        restored.changes.push(format!("set the pods' part of table inet {name}"));
    }
    let elements: Vec<_> = pods.iter().flat_map(|(_, _, rules)| rules.elements.clone()).collect();
    let missing: HashSet<_> = nft::missing(socket, &table, &elements)?.into_iter().collect();
    for (ledger, record, rules) in &pods {
        let attachment = &record.attachment;
        if !rules.elements.iter().any(|element| missing.contains(element)) {
            continue;
        }
        let Some(_lock) = ledger.try_lock_attachment(attachment)? else {
            restored.complete = false;
            continue;
        };
        // It may have been detached, or attached anew.
        if ledger.find(attachment)? != Some((record.clone(), true)) {
            continue;
        }
        let done = nft::ensure(socket, &table, &rules.elements)?;
        forget_flows(record, Change::Added, socket);
        let owner = names::host_device(attachment);
        restored.changes.push(format!("set {} elements of {owner} in table inet {name}", done.elements));
    }
    Ok(restored)
}

/// Has UDP flows to these addresses forgotten that host ports of all addresses have translated: they leave the addresses out.
///
/// # Errors
/// What could not be read of the ledger, or what the kernel refused.
pub fn leave_out(addresses: &BTreeSet<IpAddr>, socket: &mut Socket, state: &Path) -> Result<()> {
    let records = records(state)?;
    let mappings = records.iter().flat_map(mappings);
    Ok(host_port_flows::forget(mappings, Change::LeftOut(addresses), socket)?)
}

/// The table that these pods need, and whether it is complete. Pods of one network may come from different configurations,
/// and each ADD replaces the network's chain: a chain is right if it is that of any pod.
fn read_table(socket: &mut Socket, pods: &[(Ledger, Record, PodRules)]) -> Result<(Table, bool)> {
    let all: Vec<&Chain> = pods.iter().flat_map(|(_, _, rules)| &rules.chains).collect();
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
    let complete = found.is(&table);
    Ok((table, complete))
}

/// Restores the rules of every pod of every network.
fn restore_all(socket: &mut Socket, state: &Path) -> Result<()> {
    let (mut chains, mut elements) = (Vec::<Chain>::new(), Vec::new());
    for record in records(state)? {
        let wanted = PodRules::of(&record);
        for chain in wanted.chains {
            if !chains.iter().any(|there| there.name == chain.name) {
                chains.push(chain);
            }
        }
        elements.extend(wanted.elements);
    }
    nft::ensure(socket, &pods::table(chains), &elements)?;
    // A pod may have been detached since the records were read.
    sweep(state)
}

/// Removes elements of pods that have no record.
///
/// # Errors
/// When the table or the ledger cannot be read, or the kernel refuses.
pub fn sweep(state: &Path) -> Result<()> {
    let mut socket = Socket::netfilter()?;
    let table = pods::table(Vec::new());
    let mut elements = Vec::new();
    for set in &table.sets {
        elements.extend(nft::elements(&mut socket, &table.name, set)?);
    }
    if elements.is_empty() {
        return Ok(());
    }
    // Listed after the elements: a record is written before its elements are added.
    let owners: HashSet<_> = records(state)?.iter().map(|record| names::host_device(&record.attachment)).collect();
    elements.retain(|element| {
        let owner = element.owner.as_deref().unwrap_or_default();
        owner.starts_with(defaults::HOST_VETH_PREFIX) && !owners.contains(owner)
    });
    nft::remove_elements(&mut socket, &table, &elements)?;
    Ok(())
}

/// The records of every pod of every network.
fn records(state: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for network in Ledger::networks(state)? {
        let Some(ledger) = Ledger::existing(state, &network)? else { continue };
        for record in ledger.records()?.0 {
            records.push(ledger.with_own_addresses(record)?);
        }
    }
    Ok(records)
}

/// Deletes the flows that do not follow a change of a pod's host ports. An error here is only logged.
fn forget_flows(record: &Record, change: Change<'_>, socket: &mut Socket) {
    if let Err(error) = host_port_flows::forget(mappings(record), change, socket) {
        log::note(format_args!("UDP packets to the host ports may be sent to the wrong pod for a while: {error}"));
    }
}

/// The host ports of a pod. Each is forwarded to the pod's first address of each family.
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
