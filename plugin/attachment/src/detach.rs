//! Detach an attachment: remove what it has in the kernel, then release what it holds. Every step accepts "already gone",
//! and neither the pod's namespace nor a record is needed.

use podwire_kernel::netns::Namespace;
use podwire_kernel::{Result as Kernel, Socket};

use crate::error::{Error, Result};
use crate::ledger::{Ledger, Record};
use crate::names::{self, Attachment};
use crate::pod_rules;

/// Removes the veth pair, and with it its routes and neighbours, then releases what the attachment holds. An address that is
/// still routed to a device is never released: if the device cannot be removed the record stays, so the next DEL finds both.
/// A failed step does not stop the others. `remove` removes devices in the way that suits the process
/// ([`podwire_kernel::link::removal`]).
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
    let mut devices = vec![names::host_device(attachment)];
    if record.is_none_or(|record| record.bandwidth.egress.is_some()) {
        devices.push(names::shaper_device(attachment));
    }
    let devices: Vec<_> = devices.iter().map(String::as_str).collect();
    // Kept open until the forked child of the removal has it as well, so the child waits for the close.
    let (_open, rules_removed) = match record.map_or(Ok(None), pod_rules::remove) {
        Ok(socket) => (socket, Ok(())),
        Err(error) => (None, Err(error)),
    };
    let removed = remove(&devices).map_err(Error::from);
    let routing = match (record, netns) {
        (Some(record), Some(netns)) if record.second_interface.is_some() => match Namespace::open(netns) {
            Ok(pod) => remove_routing_rules(record, &pod),
            // The rules have gone with the namespace.
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error.into()),
        },
        _ => Ok(()),
    };
    removed.and(rules_removed).and(routing)?;
    ledger.map_or(Ok(()), |ledger| ledger.release(attachment))
}

/// Removes the routing rules of a second interface from the pod, if it is still the same pod.
///
/// # Errors
/// When a namespace cannot be entered or the kernel refuses.
pub fn remove_routing_rules(record: &Record, pod: &Namespace) -> Result<()> {
    let found = pod.identity()?;
    let Some(second) = record.second_interface.filter(|second| second.namespace == found) else { return Ok(()) };
    let mut inside = pod.within(&Namespace::own()?, Socket::route)??;
    let rules = record.addresses().into_iter().map(|address| names::rule(address, second.device).delete()).collect();
    inside.execute_all(rules).into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
