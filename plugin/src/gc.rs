//! GC: detach every attachment of a network that the runtime does not list as valid.

use std::collections::HashSet;
use std::path::Path;

use podwire_attachment::ledger::Ledger;
use podwire_attachment::names::Attachment;
use podwire_attachment::pod_rules;
use podwire_attachment::{detach, names};
use podwire_conf::defaults;
use podwire_kernel::Socket;
use podwire_kernel::link::{self, removal};

use crate::cni::{Code, Failure, Gc};
use crate::delegate;

/// Detaches what is not valid, with or without a record. Goes on after an error, and finally returns all errors.
pub(crate) fn gc(request: &Gc, state: &Path) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let is_valid =
        |attachment: &Attachment| request.valid.contains(&(attachment.container.clone(), attachment.interface.clone()));
    let ledger = Ledger::existing(state, &request.network)?;
    if let Some(ledger) = &ledger {
        for record in ledger.records()?.0.iter().filter(|record| !is_valid(&record.attachment)) {
            let attachment = &record.attachment;
            let detached = ledger
                .lock_to_release(attachment)
                .and_then(|_lock| detach::detach(attachment, Some(ledger), Some(record), None, removal::announced));
            failures.extend(
                detached.err().map(|failure| format!("{} {}: {failure}", attachment.container, attachment.interface)),
            );
        }
    }
    let valid: Vec<_> = request
        .valid
        .iter()
        .map(|(container, interface)| Attachment {
            network: request.network.clone(),
            container: container.clone(),
            interface: interface.clone(),
        })
        .collect();
    failures.extend(remove_unknown_devices(request, ledger.as_ref(), &valid).err().map(|failure| failure.to_string()));
    if let Some(ledger) = &ledger {
        failures.extend(ledger.sweep(&valid).err().map(|failure| failure.to_string()));
    }
    failures.extend(pod_rules::sweep(state).err().map(|failure| failure.to_string()));
    if let Some(delegate) = &request.delegate {
        failures.extend(delegate::pass_on(delegate, "GC").err().map(|failure| failure.to_string()));
    }
    match failures.len() {
        0 => Ok(()),
        count => {
            let message = format!("{count} of the attachments to {} could not be removed", request.network);
            Err(Failure::new(Code::Kernel, message, failures.join("; ")))
        }
    }
}

/// Removes devices of this network that are neither valid nor on record, recognized by their alias.
fn remove_unknown_devices(request: &Gc, ledger: Option<&Ledger>, valid: &[Attachment]) -> Result<(), Failure> {
    let alias = names::alias_of(&request.network);
    let mut host = Socket::route()?;
    let links = link::list(&mut host)?;
    let mut known: Vec<Attachment> = valid.to_vec();
    if let Some(ledger) = ledger {
        known.extend(ledger.records()?.0.into_iter().map(|record| record.attachment));
    }
    let known: HashSet<String> =
        known.iter().flat_map(|known| [names::host_device(known), names::shaper_device(known)]).collect();
    let ours = [(defaults::HOST_VETH_PREFIX, "veth"), (defaults::SHAPER_PREFIX, "ifb")];
    let unknown = links.iter().filter(|link| {
        ours.iter().any(|(prefix, kind)| link.name.starts_with(prefix) && link.kind.as_deref() == Some(*kind))
            && link.alias.as_ref().is_some_and(|found| found.starts_with(&alias))
            && !known.contains(&link.name)
    });
    for link in unknown {
        removal::announced(&[&link.name])?;
    }
    Ok(())
}
