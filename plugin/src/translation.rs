//! Host ports and masquerade: what the record of a pod means in the firewall, made so, taken away, compared, and put back
//! when somebody has flushed it. The table itself is `podwire_conf`'s.

use std::collections::HashSet;
use std::path::Path;

use podwire_conf::hostport::{Mapping, Protocol};
use podwire_conf::{defaults, masquerade, translation};
use podwire_kernel::Socket;
use podwire_kernel::conntrack::{self, Filter};
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{self, Chain, Element};

use crate::cni::Failure;
use crate::ledger::{Ledger, Record};
use crate::plan;

/// What the firewall has for one pod.
struct Translation {
    chains: Vec<Chain>,
    elements: Vec<Element>,
}

impl Translation {
    fn of(record: &Record) -> Self {
        let owner = plan::host_device(&record.attachment);
        let network = &record.attachment.network;
        let mut elements = Vec::new();
        for pod in record.addresses() {
            let mappings = record.ports.iter().map(|port| Mapping {
                protocol: port.protocol,
                host_address: port.host_address,
                host_port: port.host_port,
                pod,
                pod_port: port.pod_port,
            });
            elements.extend(mappings.flat_map(|mapping| mapping.elements(&owner)));
            if !record.masquerade.is_empty() {
                elements.push(masquerade::element(network, pod, &owner));
            }
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
pub(crate) fn make(record: &Record, state: &Path) -> Result<(), Failure> {
    let wanted = Translation::of(record);
    if wanted.elements.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::netfilter()?;
    let done = nft::establish(&mut socket, &translation::table(wanted.chains), &wanted.elements)?;
    if done.table {
        restore(&mut socket, state)?;
    }
    forget_connections(record);
    Ok(())
}

/// Takes away what a pod has there. What has gone or is another's by now is left.
pub(crate) fn take_away(record: &Record) -> Result<(), Failure> {
    let had = Translation::of(record);
    if had.elements.is_empty() {
        return Ok(());
    }
    nft::withdraw(&mut Socket::netfilter()?, &translation::table(had.chains), &had.elements)?;
    forget_connections(record);
    Ok(())
}

/// What a pod should have there and has not, as sentences.
pub(crate) fn differences(record: &Record) -> Result<Vec<String>, Failure> {
    let wanted = Translation::of(record);
    if wanted.elements.is_empty() {
        return Ok(Vec::new());
    }
    let mut socket = Socket::netfilter()?;
    let table = translation::table(wanted.chains);
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

/// Puts back what every pod of every network has there.
fn restore(socket: &mut Socket, state: &Path) -> Result<(), Failure> {
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
    nft::establish(socket, &translation::table(chains), &elements)?;
    // Whoever was on record a moment ago may have gone meanwhile.
    sweep(state)
}

/// Takes away what belongs to a pod that is on no record.
pub(crate) fn sweep(state: &Path) -> Result<(), Failure> {
    let mut socket = Socket::netfilter()?;
    let table = translation::table(Vec::new());
    let mut elements = Vec::new();
    for set in &table.sets {
        elements.extend(nft::elements(&mut socket, &table.name, set)?);
    }
    if elements.is_empty() {
        return Ok(());
    }
    // Listed after the elements: whoever makes one is on record before.
    let owners: HashSet<_> = records(state)?.iter().map(|record| plan::host_device(&record.attachment)).collect();
    elements.retain(|element| {
        let owner = element.owner.as_deref().unwrap_or_default();
        owner.starts_with(defaults::HOST_VETH_PREFIX) && !owners.contains(owner)
    });
    nft::withdraw(&mut socket, &table, &elements)?;
    Ok(())
}

fn records(state: &Path) -> Result<Vec<Record>, Failure> {
    let mut records = Vec::new();
    for network in Ledger::networks(state)? {
        if let Some(ledger) = Ledger::existing(state, &network)? {
            records.extend(ledger.records()?.0);
        }
    }
    Ok(records)
}

/// A datagram has no connection, so the kernel goes on translating as it did before for as long as somebody sends: what
/// it remembers of these ports and of this pod is forgotten. That it could not be is no reason to fail.
fn forget_connections(record: &Record) {
    let mut filters = Vec::new();
    for port in record.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        for pod in record.addresses() {
            let Some(host) = port.host_address_for(pod) else { continue };
            let everything = Filter {
                version: IpVersion::of(pod),
                protocol: Protocol::Udp.number(),
                destination: None,
                destination_port: None,
                reply_source: None,
            };
            let destination = Some(host).filter(|host| !host.is_unspecified());
            filters.push(Filter { destination, destination_port: Some(port.host_port), ..everything });
            filters.push(Filter { reply_source: Some(pod), ..everything });
        }
    }
    if filters.is_empty() {
        return;
    }
    let forget = |socket: &mut Socket| filters.iter().try_for_each(|filter| conntrack::forget(socket, filter));
    if let Err(error) = Socket::netfilter().and_then(|mut socket| forget(&mut socket)) {
        eprintln!("podwire: datagrams to the host ports may go astray for a while: {error}");
    }
}
