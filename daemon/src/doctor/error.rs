//! Why the doctor cannot look at something.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::observe::status::client::AskError;
use crate::sources::{file, settings_file};

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
    /// The daemon does not say which policies it has.
    #[error("ask for the policies: {0}")]
    Policies(AskError),
    /// No echoes can be sent or heard.
    #[error("probe the peers: {0}")]
    Probe(io::Error),
    /// The membership file cannot be used.
    #[error(transparent)]
    Membership(#[from] file::FileError),
    /// The settings file cannot be used.
    #[error(transparent)]
    Settings(#[from] settings_file::FileError),
}

/// A result of the doctor.
pub(super) type Result<T> = std::result::Result<T, Error>;
