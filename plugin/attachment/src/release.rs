//! Releasing what an attachment holds on behalf of somebody who is not its runtime: podwired, which finds pods that have
//! gone without a DEL, and takes all of them away from a node that leaves. Whether an attachment is to be released is the
//! caller's judgement.

use std::path::Path;

use podwire_conf::defaults;
use podwire_kernel::Socket;
use podwire_kernel::link::{self, removal};

use crate::error::Error;
use crate::ledger::{Ledger, Record};
use crate::{detach, names};

/// An attachment that is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// What is on record.
    pub record: Record,
    /// Whether its device on the host is there: without it no packet can reach the pod.
    pub has_device: bool,
}

/// Every attachment of every network of this node.
///
/// # Errors
/// When the ledgers or the devices cannot be listed.
pub fn attachments(state: &Path, host: &mut Socket) -> Result<Vec<Attached>, Error> {
    let mut records = Vec::new();
    for network in Ledger::networks(state)? {
        let Some(ledger) = Ledger::of_this_boot(state, &network)? else { continue };
        for record in ledger.records()?.0 {
            // One that moves on meanwhile is seen twice.
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    let mut attached = Vec::new();
    for record in records {
        // One by one: a list of all devices is not to be had while devices come and go.
        let has_device = link::by_name(host, &names::host_device(&record.attachment))?.is_some();
        attached.push(Attached { record, has_device });
    }
    Ok(attached)
}

/// Releases what an attachment holds, unless it is not any more what it was when it was judged, or is being attached or
/// detached right now. Whether it was released. Any number of threads may be there.
///
/// # Errors
/// What could not be taken away; the record is then still there.
pub fn release(state: &Path, judged: &Attached, host: &mut Socket) -> Result<bool, Error> {
    let attachment = &judged.record.attachment;
    let Some(ledger) = Ledger::of_this_boot(state, &attachment.network)? else { return Ok(false) };
    let Some(_turn) = ledger.try_lock_attachment(attachment)? else { return Ok(false) };
    let found = ledger.find(attachment)?.map(|(record, _)| record);
    let has_device = link::by_name(host, &names::host_device(attachment))?.is_some();
    if found.as_ref() != Some(&judged.record) || has_device != judged.has_device {
        return Ok(false);
    }
    detach::detach(attachment, Some(&ledger), Some(&judged.record), None, removal::acknowledged)?;
    Ok(true)
}

/// The devices of attachments that no record knows of: by their names, which nobody else gives.
///
/// # Errors
/// When the devices cannot be listed.
pub fn devices_without_record(attached: &[Attached], host: &mut Socket) -> Result<Vec<String>, Error> {
    let of_record = |name: &String| {
        let names =
            |known: &Attached| [names::host_device, names::shaper_device].map(|of| of(&known.record.attachment));
        attached.iter().any(|known| names(known).contains(name))
    };
    let kinds = [(defaults::HOST_VETH_PREFIX, "veth"), (defaults::SHAPER_PREFIX, "ifb")];
    let ours = |link: &link::Link| {
        kinds.iter().any(|(prefix, kind)| {
            let letters = link.name.strip_prefix(prefix).unwrap_or_default();
            link.kind.as_deref() == Some(*kind) && names::is_device_hash(letters)
        })
    };
    let found = link::list(host)?.into_iter().filter(ours).map(|link| link.name);
    Ok(found.filter(|name| !of_record(name)).collect())
}
