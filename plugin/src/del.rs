//! DEL: derive the same names again, remove the datapath first and the address last. Every step accepts "already gone", and
//! neither the pod's namespace nor a record is needed.

use std::path::Path;

use podwire_attachment::detach::detach;
use podwire_attachment::error::Kind;
use podwire_attachment::ledger::Ledger;
use podwire_kernel::link::removal;

use crate::cni::{Del, Failure};
use crate::delegate;

/// Detaches a pod. A second call, or one for an unknown pod, does nothing.
pub(crate) fn del(request: &Del, state: &Path) -> Result<(), Failure> {
    let attachment = &request.attachment;
    let ledger = Ledger::existing(state, &attachment.network)?;
    let _lock = ledger.as_ref().map(|ledger| ledger.lock_to_release(attachment)).transpose()?;
    let (record, unreadable) = match ledger.as_ref().map_or(Ok(None), |ledger| ledger.find(attachment)) {
        Ok(found) => (found.map(|(record, _)| record), None),
        // What the record would say is derived from the attachment, or found by the claims.
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::ForeignRecord) => (None, None),
        // Nothing is released: the next DEL may be able to read the record.
        Err(error) => (None, Some(error)),
    };
    let ledger = ledger.as_ref().filter(|_| unreadable.is_none());
    detach(attachment, ledger, record.as_ref(), request.netns.as_deref(), removal::announced)?;
    unreadable.map_or(Ok(()), Err)?;
    request.delegate.as_ref().map_or(Ok(()), |delegate| delegate::pass_on(delegate, "DEL"))
}
