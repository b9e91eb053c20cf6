//! Reclaiming what dead attachments hold, when an ADD needs it. An attachment is dead when its device on the host is gone.

use podwire_kernel::Socket;
use podwire_kernel::link::{self, removal};

use crate::error::Result;
use crate::ledger::Ledger;
use crate::{detach, names};

/// Detaches every attachment of a network whose device is gone, and returns how many there were. An attachment whose ADD or
/// DEL is running is skipped.
///
/// # Errors
/// When the ledger or a device cannot be read, or an attachment cannot be detached.
pub fn reclaim(ledger: &Ledger, host: &mut Socket) -> Result<usize> {
    let mut reclaimed = 0;
    for record in ledger.records()?.0 {
        let attachment = &record.attachment;
        // One by one: a dump of all devices is interrupted while devices come and go.
        if link::by_name(host, &names::host_device(attachment))?.is_some() {
            continue;
        }
        let Some(_lock) = ledger.try_lock_attachment(attachment)? else { continue };
        // An ADD may have completed in the meantime.
        if ledger.find(attachment)?.is_none() || link::by_name(host, &names::host_device(attachment))?.is_some() {
            continue;
        }
        detach::detach(attachment, Some(ledger), Some(&record), None, removal::announced)?;
        reclaimed += 1;
    }
    Ok(reclaimed)
}
