//! An error as the protocol has it: a code, a sentence, and details (CNI specification 1.1.0, section 5, "Error").

use std::fmt;

use podwire_conf::Invalid;
use serde_json::json;

use super::VERSIONS;

/// What a call answers when it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: u32,
    message: String,
    details: String,
    version: Option<String>,
}

/// Error codes: below 100 those of the specification, from 100 on our own. They never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// A version that is not spoken.
    IncompatibleVersion = 1,
    /// A key that is understood but cannot be honoured.
    UnsupportedField = 2,
    /// An environment variable is missing or has a value that cannot be used.
    Environment = 4,
    /// A file, stdin or stdout failed.
    Io = 5,
    /// What came on stdin is no JSON object.
    Decode = 6,
    /// The network configuration cannot be used.
    Configuration = 7,
    /// The network namespace cannot be used.
    Namespace = 8,
    /// Try again later.
    TryAgain = 11,
    /// Not able to serve an ADD.
    Unavailable = 50,
    /// Not able to serve an ADD, and pods that are attached may have lost their connections.
    Limited = 51,
    /// No address is left.
    Exhausted = 100,
    /// The attachment exists already.
    AlreadyAttached = 101,
    /// The kernel refused.
    Kernel = 102,
    /// The ledger holds something that it cannot read.
    Ledger = 103,
    /// An address that was asked for cannot be given.
    AddressUnavailable = 104,
    /// A host port that was asked for is somebody else's.
    PortTaken = 105,
    /// CHECK has found that the attachment is not as ADD made it.
    Differs = 106,
}

/// Bytes of JSON that the sentence and the details may take.
const MESSAGE_LIMIT: usize = 1000;
const DETAILS_LIMIT: usize = 900;

impl Failure {
    /// A failure: what was wanted or what is wrong, and on what.
    pub fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::foreign(code as u32, message, details)
    }

    /// A failure with a code of another plugin's.
    pub fn foreign(code: u32, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into(), version: None }
    }

    /// A file or stream that failed.
    pub fn io(wish: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Code::Io, format!("{wish}: {error}"), "")
    }

    /// The code.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error object. It is one line of less than two kilobytes, whatever was asked for: runtimes show it to humans.
    pub fn render(&self) -> String {
        let mut answer = json!({"code": self.code, "msg": shortened(&self.message, MESSAGE_LIMIT)});
        answer["cniVersion"] = json!(self.version.as_deref().unwrap_or(VERSIONS[VERSIONS.len() - 1]));
        if !self.details.is_empty() {
            answer["details"] = json!(shortened(&self.details, DETAILS_LIMIT));
        }
        format!("{answer}\n")
    }

    /// The same failure, to be told in a version of the protocol.
    pub fn in_version(mut self, version: &str) -> Self {
        self.version = VERSIONS.contains(&version).then(|| version.to_owned());
        self
    }
}

/// The beginning of a text that takes no more than so many bytes of JSON.
fn shortened(text: &str, limit: usize) -> String {
    let mut size = 0;
    let over = text.char_indices().find(|(_, character)| {
        size += match character {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            '\0'..='\u{1f}' => 6,
            other => other.len_utf8(),
        };
        size > limit
    });
    over.map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

impl From<podwire_kernel::Error> for Failure {
    fn from(error: podwire_kernel::Error) -> Self {
        Self::new(Code::Kernel, error.to_string(), "")
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::new(Code::Configuration, format!("network configuration: {invalid}"), "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details) }
    }
}
