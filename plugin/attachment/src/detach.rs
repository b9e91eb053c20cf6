//! Detach an attachment: remove what it has in the kernel, then release what it holds. Every step accepts "already gone",
//! and neither the pod's namespace nor a record is needed.

use podwire_kernel::netns::Namespace;
use podwire_kernel::{Result as Kernel, Socket};

use crate::error::{Error, Result};
use crate::ledger::{Ledger, Record};
use crate::names::{self, Attachment};
use crate::pod_rules;

/// Removes the pair, with which its routes and neighbours go, and releases what the attachment holds. An address that
/// is still routed to a device is never released: a device that cannot be removed keeps its record, so that the
/// runtime's next DEL finds both. Everything else is tried whatever fails before it. `remove` removes devices, in the way
/// that suits the process ([`podwire_kernel::link::removal`]).
///
/// # Errors
/// What could not be removed; the record is then still there.
pub fn detach(
    attachment: &Attachment,
    ledger: Option<&Ledger>,
    record: Option<&Record>,
    netns: Option<&str>,
    remove: fn(&[&str]) -> Kernel<()>,
) -> Result<()> {
    let shaper = names::shaper_device(attachment);
    let mut names = vec![names::host_device(attachment)];
    if record.is_none_or(|record| record.bandwidth.egress.is_some()) {
        names.push(shaper);
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // Open until the child of the removal has it as well: then that one waits in closing it.
    let (_open, translated) = match record.map_or(Ok(None), pod_rules::take_away) {
        Ok(socket) => (socket, Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let removed = remove(&names).map_err(Error::from);
    let rules = match (record, netns) {
        (Some(record), Some(netns)) if record.beside.is_some() => match Namespace::open(netns) {
            Ok(pod) => remove_rules(record, &pod),
            // With the namespace the rules have gone.
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error.into()),
        },
        _ => Ok(()),
    };
    removed.and(translated).and(rules)?;
    ledger.map_or(Ok(()), |ledger| ledger.release(attachment))
}

/// Removes the rules of a second interface out of the pod, when it is that pod still.
///
/// # Errors
/// When a namespace cannot be entered or the kernel refuses.
pub fn remove_rules(record: &Record, pod: &Namespace) -> Result<()> {
    let found = pod.identity()?;
    let Some(beside) = record.beside.filter(|beside| beside.namespace == found) else { return Ok(()) };
    let mut inside = pod.within(&Namespace::own()?, Socket::route)??;
    let rules = record.addresses().into_iter().map(|address| names::rule(address, beside.device).delete()).collect();
    inside.execute_all(rules).into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
