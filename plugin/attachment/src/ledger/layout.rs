//! How the files of a ledger are called, and which boot they belong to. What is in them is not said here.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use podwire_conf::hash;
use serde::Serialize;

use super::disk::failed;
use crate::error::{Error, Kind, Result};
use crate::names::Attachment;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file with the id of the boot that a ledger belongs to.
pub(super) const BOOT: &str = "boot";

/// Records of attachments whose ADD has completed, and of those whose ADD has not.
pub(super) const ATTACHMENTS: &str = "attachments";
pub(super) const PENDING: &str = "pending";

/// The other directories of a ledger.
pub(super) const CLAIMS: &str = "claims";
pub(super) const FREE: &str = "free";

/// The locks of attachments. The name is older than the word, and stays: during an update, plugins of two versions must
/// see the same lock.
pub(super) const LOCKS: &str = "turns";

/// All of them.
pub(super) const DIRECTORIES: [&str; 5] = [ATTACHMENTS, PENDING, CLAIMS, FREE, LOCKS];

/// Where records are, in the order in which they move: a reader in this order misses none, and may see one twice.
pub(super) const PLACES: [&str; 2] = [PENDING, ATTACHMENTS];

/// The id of this boot, which is read once. An error here is returned: without the id, no ledger may be taken for one of an earlier
/// boot.
pub(super) fn boot() -> Result<&'static [u8]> {
    static BOOT: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let boot = fs::read(BOOT_ID).map_err(|error| failed("read", Path::new(BOOT_ID), &error))?;
    Ok(BOOT.get_or_init(|| boot))
}

/// The file name of an attachment's record.
pub(super) fn record_name(attachment: &Attachment) -> String {
    let Attachment { network, container, interface } = attachment;
    format!("{:016x}", hash::stable(&[network, container, interface, "record"]))
}

/// Whether this could be the file name of a record. A damaged file may say anything, and of any length.
pub(super) fn is_record_name(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is written into a file.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Kind::Encoding, format!("write the ledger: {error}"), ""))
}
