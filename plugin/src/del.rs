//! The road of DEL: the same names derived again, the datapath first and the address last, every step content with
//! "already gone". It needs neither the pod's namespace nor a record.

use std::path::Path;

use podwire_kernel::{Socket, link};

use crate::cni::{Attachment, Del, Failure};
use crate::ledger::Ledger;
use crate::plan;

/// Detaches a pod. A second time, or of a pod that never was, it does nothing.
pub(crate) fn del(request: &Del, state: &Path) -> Result<(), Failure> {
    let ledger = Ledger::existing(state, &request.attachment.network)?;
    let _turn = ledger.as_ref().map(|ledger| ledger.turn(&request.attachment)).transpose()?;
    detach(&request.attachment, ledger.as_ref(), &mut Socket::route()?)
}

/// Removes the pair, with which its routes and neighbours go, and releases what the attachment holds. An address that
/// is still routed to a device is never released: a device that cannot be removed keeps its record, so that the
/// runtime's next DEL finds both.
pub(crate) fn detach(attachment: &Attachment, ledger: Option<&Ledger>, host: &mut Socket) -> Result<(), Failure> {
    host.execute(link::delete(&plan::host_device(attachment)))?;
    ledger.map_or(Ok(()), |ledger| ledger.release(attachment))
}
