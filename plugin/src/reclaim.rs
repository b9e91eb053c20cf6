//! Taking back what dead pods hold: an attachment is alive while its device on the host exists.

use podwire_kernel::Socket;
use podwire_kernel::link::{self, removal};

use crate::cni::Failure;
use crate::ledger::Ledger;
use crate::{del, plan};

/// Detaches every attachment of a network whose device has gone, and tells how many there were. One whose ADD or DEL is
/// under way is left to it.
pub(crate) fn reclaim(ledger: &Ledger, host: &mut Socket) -> Result<usize, Failure> {
    let mut reclaimed = 0;
    for record in ledger.records()?.0 {
        let attachment = &record.attachment;
        // One by one: a list of all devices is not to be had while devices come and go.
        if link::by_name(host, &plan::host_device(attachment))?.is_some() {
            continue;
        }
        let Some(_turn) = ledger.turn_at_once(attachment)? else { continue };
        // It may have been made in the meantime.
        if ledger.find(attachment)?.is_none() || link::by_name(host, &plan::host_device(attachment))?.is_some() {
            continue;
        }
        del::detach(attachment, Some(ledger), Some(&record), None, removal::announced)?;
        reclaimed += 1;
    }
    Ok(reclaimed)
}
