//! The addresses and host ports that attachments hold on this node: the only module that knows the state directory.
//!
//! ```text
//! /run/podwire/<network>/lock                  held while anything below is read or written
//!                       /boot                  id of the boot that all of it belongs to: a reboot frees everything
//!                       /pending/<hash>        record of an ADD that is running, or was killed
//!                       /attachments/<hash>    record of an attachment: what it holds, as JSON
//!                       /claims/<address>      a link to the record of its holder
//!                       /free/<hash>           the free addresses of a set of ranges, in the order they are given
//!                       /turns/<hash>          the attachment's lock, held during its ADD or DEL
//! /run/podwire/.ports/tcp-8080                 the holder of a host port, for all networks
//! ```
//! Records and claims are the truth. A free list only makes the choice cheap, and is rebuilt from the claims when in doubt.
//! A record is written before its claims and removed after them, so the record leads to whatever a killed process left
//! behind. Records are written to a temporary file and renamed; a claim is made by one system call.
//!
//! What may not live here: the kernel's network state. Whether an address has a foreign route is asked by a callback. This
//! file itself only names the parts.

mod attachment_lock;
mod claims;
mod directory;
mod disk;
mod free_list;
mod host_ports;
mod known_records;
mod layout;
mod record;
mod records;
mod release;
mod reserve;
mod sweep;

pub use attachment_lock::AttachmentLock;
pub use directory::Ledger;
pub use known_records::{How, KnownRecords, TICK};
pub use record::{Held, PodName, Record, SecondInterface};
pub use reserve::{Routed, Wanted};

#[cfg(test)]
mod tests;
