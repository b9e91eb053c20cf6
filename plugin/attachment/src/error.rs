//! What can go wrong with an attachment, in its own terms. CNI codes are the plugin's affair, problems the daemon's.

use std::fmt;
use std::io;

use podwire_conf::shown;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong: the kind for programs, the sentences for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    details: String,
}

/// The kinds of errors. Callers decide by the kind, never by the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file of the ledger could not be read, written, removed or locked.
    Io,
    /// A lock was held by another process for too long.
    Busy,
    /// Every address of a set of ranges is held.
    RangeFull,
    /// A requested address cannot be had: it is held, reserved, the target of a foreign route, or in no range.
    AddressUnavailable,
    /// Another pod has the host port.
    PortTaken,
    /// The attachment has a record already.
    AlreadyAttached,
    /// The reservation of an attachment has gone while it was attached.
    ReservationLost,
    /// A record or another file of the ledger does not make sense.
    Damaged,
    /// The record of this name belongs to another attachment with the same hash.
    ForeignRecord,
    /// A file of the ledger could not be encoded.
    Encoding,
    /// The kernel refused.
    Kernel,
}

impl Error {
    /// An error: what was wanted and what is wrong, and on what.
    pub fn new(kind: Kind, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { kind, message: one_line(message.into()), details: one_line(details.into()) }
    }

    /// A file that failed.
    pub fn io(action: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Kind::Io, format!("{action}: {error}"), "")
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What explains the sentence or helps out of it; empty where there is no more to say.
    pub fn details(&self) -> &str {
        &self.details
    }
}

/// A text as one line, as it is shown: what another program or a user has put into it may move a terminal's cursor.
pub fn one_line(text: String) -> String {
    let text = if text.contains(['\n', '\r', '\t']) { text.replace(['\n', '\r', '\t'], " ") } else { text };
    shown::line(&text).into_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details) }
    }
}

impl std::error::Error for Error {}

impl From<podwire_kernel::Error> for Error {
    fn from(error: podwire_kernel::Error) -> Self {
        Self::new(Kind::Kernel, error.to_string(), "")
    }
}
