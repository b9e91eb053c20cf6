//! The road of DEL: the same names derived again, the datapath first and the address last, every step content with
//! "already gone". It needs neither the pod's namespace nor a record.

use std::path::Path;

use podwire_attachment::detach::detach;
use podwire_attachment::error::Kind;
use podwire_attachment::ledger::Ledger;
use podwire_kernel::link::removal;

use crate::cni::{Del, Failure};
use crate::delegate;

/// Detaches a pod. A second time, or of a pod that never was, it does nothing.
pub(crate) fn del(request: &Del, state: &Path) -> Result<(), Failure> {
    let attachment = &request.attachment;
    let ledger = Ledger::existing(state, &attachment.network)?;
    let _lock = ledger.as_ref().map(|ledger| ledger.lock_to_release(attachment)).transpose()?;
    let (record, unreadable) = match ledger.as_ref().map_or(Ok(None), |ledger| ledger.find(attachment)) {
        Ok(found) => (found.map(|(record, _)| record), None),
        // Damaged: what it would say is derived, or found by the claims.
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::ForeignRecord) => (None, None),
        // The next DEL may be able to read what is to be released.
        Err(error) => (None, Some(error)),
    };
    let ledger = ledger.as_ref().filter(|_| unreadable.is_none());
    detach(attachment, ledger, record.as_ref(), request.netns.as_deref(), removal::announced)?;
    unreadable.map_or(Ok(()), Err)?;
    request.delegate.as_ref().map_or(Ok(()), |delegate| delegate::pass_on(delegate, "DEL"))
}
