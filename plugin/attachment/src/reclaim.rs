//! Taking back what dead pods hold: an attachment is alive while its device on the host exists.

use podwire_kernel::Socket;
use podwire_kernel::link::{self, removal};

use crate::error::Error;
use crate::ledger::Ledger;
use crate::{detach, names};

/// Detaches every attachment of a network whose device has gone, and tells how many there were. One whose ADD or DEL is
/// under way is left to it.
pub fn reclaim(ledger: &Ledger, host: &mut Socket) -> Result<usize, Error> {
    let mut reclaimed = 0;
    for record in ledger.records()?.0 {
        let attachment = &record.attachment;
        // One by one: a list of all devices is not to be had while devices come and go.
        if link::by_name(host, &names::host_device(attachment))?.is_some() {
            continue;
        }
        let Some(_turn) = ledger.try_lock_attachment(attachment)? else { continue };
        // It may have been made in the meantime.
        if ledger.find(attachment)?.is_none() || link::by_name(host, &names::host_device(attachment))?.is_some() {
            continue;
        }
        detach::detach(attachment, Some(ledger), Some(&record), None, removal::announced)?;
        reclaimed += 1;
    }
    Ok(reclaimed)
}
