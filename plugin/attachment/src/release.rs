//! Releasing attachments on behalf of a caller other than their runtime: the daemon does so for pods that have gone without
//! a DEL, and for all pods of a node that is uninstalled. Which attachment to release is decided by the caller.

use std::path::Path;

use podwire_conf::defaults;
use podwire_kernel::Socket;
use podwire_kernel::link::{self, removal};

use crate::error::Result;
use crate::ledger::{Ledger, Record};
use crate::{detach, names};

/// An attachment that has a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The record.
    pub record: Record,
    /// Whether its device on the host exists. Without it no packet reaches the pod.
    pub has_device: bool,
}

/// Every attachment of every network of this node.
///
/// # Errors
/// When the ledgers or the devices cannot be listed.
pub fn attachments(state: &Path, host: &mut Socket) -> Result<Vec<Attached>> {
    let mut records = Vec::new();
    for network in Ledger::networks(state)? {
        let Some(ledger) = Ledger::of_this_boot(state, &network)? else { continue };
        for record in ledger.records()?.0 {
            // A record that is moved while they are listed is seen twice.
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    let mut attached = Vec::new();
    for record in records {
        // One by one: a dump of all devices is interrupted while devices come and go.
        let has_device = link::by_name(host, &names::host_device(&record.attachment))?.is_some();
        attached.push(Attached { record, has_device });
    }
    Ok(attached)
}

/// Releases what an attachment holds, unless it has changed since the caller looked, or its ADD or DEL is running. Returns
/// whether it was released. Works in a process with several threads.
///
/// # Errors
/// What could not be removed; the record is then still there.
pub fn release(state: &Path, judged: &Attached, host: &mut Socket) -> Result<bool> {
    let attachment = &judged.record.attachment;
    let Some(ledger) = Ledger::of_this_boot(state, &attachment.network)? else { return Ok(false) };
    let Some(_lock) = ledger.try_lock_attachment(attachment)? else { return Ok(false) };
    let found = ledger.find(attachment)?.map(|(record, _)| record);
    let has_device = link::by_name(host, &names::host_device(attachment))?.is_some();
    if found.as_ref() != Some(&judged.record) || has_device != judged.has_device {
        return Ok(false);
    }
    detach::detach(attachment, Some(&ledger), Some(&judged.record), None, removal::acknowledged)?;
    Ok(true)
}

/// The devices of attachments that have no record, recognized by their names.
///
/// # Errors
/// When the devices cannot be listed.
pub fn devices_without_record(attached: &[Attached], host: &mut Socket) -> Result<Vec<String>> {
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
