//! The road of DEL: the same names derived again, the datapath first and the address last, every step content with
//! "already gone". It needs neither the pod's namespace nor a record.

use std::path::Path;

use podwire_kernel::link::removal;
use podwire_kernel::netns::Namespace;
use podwire_kernel::{Result as Kernel, Socket};

use crate::cni::{Attachment, Code, Del, Failure};
use crate::ledger::{Ledger, Record};
use crate::{delegate, plan, translation};

/// Detaches a pod. A second time, or of a pod that never was, it does nothing.
pub(crate) fn del(request: &Del, state: &Path) -> Result<(), Failure> {
    let attachment = &request.attachment;
    let ledger = Ledger::existing(state, &attachment.network)?;
    let _turn = ledger.as_ref().map(|ledger| ledger.turn_to_release(attachment)).transpose()?;
    let (record, unreadable) = match ledger.as_ref().map_or(Ok(None), |ledger| ledger.find(attachment)) {
        Ok(found) => (found.map(|(record, _)| record), None),
        // Damaged: what it would say is derived, or found by the claims.
        Err(failure) if failure.is_of(Code::Ledger) => (None, None),
        // The next DEL may be able to read what is to be released.
        Err(failure) => (None, Some(failure)),
    };
    let ledger = ledger.as_ref().filter(|_| unreadable.is_none());
    detach(attachment, ledger, record.as_ref(), request.netns.as_deref(), removal::announced)?;
    unreadable.map_or(Ok(()), Err)?;
    request.delegate.as_ref().map_or(Ok(()), |delegate| delegate::pass_on(delegate, "DEL"))
}

/// Removes the pair, with which its routes and neighbours go, and releases what the attachment holds. An address that
/// is still routed to a device is never released: a device that cannot be removed keeps its record, so that the
/// runtime's next DEL finds both. Everything else is tried whatever fails before it. `remove` removes devices, in the way
/// that suits the process ([`removal`]).
pub(crate) fn detach(
    attachment: &Attachment,
    ledger: Option<&Ledger>,
    record: Option<&Record>,
    netns: Option<&str>,
    remove: fn(&[&str]) -> Kernel<()>,
) -> Result<(), Failure> {
    let shaper = plan::shaper_device(attachment);
    let mut names = vec![plan::host_device(attachment)];
    if record.is_none_or(|record| record.bandwidth.egress.is_some()) {
        names.push(shaper);
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // Open until the child of the removal has it as well: then that one waits in closing it.
    let (_open, translated) = match record.map_or(Ok(None), translation::take_away) {
        Ok(socket) => (socket, Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let removed = remove(&names).map_err(Failure::from);
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
pub(crate) fn remove_rules(record: &Record, pod: &Namespace) -> Result<(), Failure> {
    let found = pod.identity()?;
    let Some(beside) = record.beside.filter(|beside| beside.namespace == found) else { return Ok(()) };
    let mut inside = pod.within(&Namespace::own()?, Socket::route)??;
    let rules = record.addresses().into_iter().map(|address| plan::rule(address, beside.device).delete()).collect();
    inside.execute_all(rules).into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
