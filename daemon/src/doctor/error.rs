//! Why the doctor cannot look at something.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::membership::ParseError;
use crate::sources::settings_file::FileError;

/// What keeps the doctor from looking.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refuses to tell.
    #[error(transparent)]
    Kernel(#[from] podwire_kernel::Error),
    /// A ledger cannot be read.
    #[error("{0}")]
    Ledger(podwire_attachment::error::Error),
    /// A directory cannot be listed.
    #[error("list {}: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// No echoes can be sent or heard.
    #[error("probe the peers: {0}")]
    Probe(io::Error),
    /// The membership file cannot be read.
    #[error("membership file {}: {error}", path.display())]
    Membership {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The membership file is not one.
    #[error("membership file {}: {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        error: ParseError,
    },
    /// The settings file cannot be read, or has a wrong value.
    #[error(transparent)]
    Settings(#[from] FileError),
}

/// A result of the doctor.
pub(super) type Result<T> = std::result::Result<T, Error>;
