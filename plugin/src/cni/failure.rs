//! An error of the protocol: code, message and details (CNI specification 1.1.0, section 5, "Error"). The only file that maps
//! errors to codes.

use std::fmt;

use podwire_attachment::error::{Error, Kind, one_line};
use podwire_conf::Invalid;
use serde_json::json;

use super::versions::VERSIONS;

/// The answer of a call that fails.
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
    /// A version that is not supported.
    IncompatibleVersion = 1,
    /// A key that is understood but cannot be honoured.
    UnsupportedField = 2,
    /// An environment variable is missing or has a value that cannot be used.
    Environment = 4,
    /// A file, stdin or stdout failed.
    Io = 5,
    /// Stdin is not a JSON object.
    Decode = 6,
    /// The network configuration cannot be used.
    Configuration = 7,
    /// The network namespace cannot be used.
    Namespace = 8,
    /// Try again later.
    TryAgain = 11,
    /// An ADD could not succeed.
    Unavailable = 50,
    /// An ADD could not succeed, and attached pods may have lost their connections.
    Limited = 51,
    /// No address is left.
    Exhausted = 100,
    /// The attachment exists already.
    AlreadyAttached = 101,
    /// The kernel refused.
    Kernel = 102,
    /// The ledger has something that cannot be read.
    Ledger = 103,
    /// A requested address is not available.
    AddressUnavailable = 104,
    /// A requested host port is taken.
    PortTaken = 105,
    /// CHECK has found a difference from what ADD left.
    Differs = 106,
    /// A bug in this program (the number that the reference implementation uses).
    Internal = 999,
}

/// How many bytes of JSON message and details may take.
const MESSAGE_LIMIT: usize = 1000;
const DETAILS_LIMIT: usize = 900;

impl Failure {
    /// A failure: what was wanted or what is wrong, and with what.
    pub fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::foreign(code as u32, message, details)
    }

    /// A failure with the code of another plugin.
    pub fn foreign(code: u32, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: one_line(message.into()), details: one_line(details.into()), version: None }
    }

    /// A file or stream that failed.
    pub fn io(action: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Code::Io, format!("{action}: {error}"), "")
    }

    /// The code.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// Whether it has one of our codes.
    pub fn is_of(&self, code: Code) -> bool {
        self.code == code as u32
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error object. It is one line of less than two kilobytes, whatever the input: runtimes show it to people.
    pub fn render(&self) -> String {
        let mut answer = json!({"code": self.code, "msg": shortened(&self.message, MESSAGE_LIMIT)});
        answer["cniVersion"] = json!(self.version.as_deref().unwrap_or(VERSIONS[VERSIONS.len() - 1]));
        if !self.details.is_empty() {
            answer["details"] = json!(shortened(&self.details, DETAILS_LIMIT));
        }
        format!("{answer}\n")
    }

    /// The same failure, in a version of the protocol.
    pub fn in_version(mut self, version: &str) -> Self {
        self.version = VERSIONS.contains(&version).then(|| version.to_owned());
        self
    }
}

/// The beginning of a text that fits into so many bytes of JSON.
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

/// The code for each kind of error of the attachment. Only this file knows both.
const fn code_of(kind: Kind) -> Code {
    match kind {
        Kind::Io => Code::Io,
        Kind::Busy => Code::TryAgain,
        Kind::RangeFull => Code::Exhausted,
        Kind::AddressUnavailable => Code::AddressUnavailable,
        Kind::PortTaken => Code::PortTaken,
        Kind::AlreadyAttached => Code::AlreadyAttached,
        Kind::ReservationLost | Kind::Damaged | Kind::ForeignRecord | Kind::Encoding => Code::Ledger,
        Kind::Kernel => Code::Kernel,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(code_of(error.kind()), error.message(), error.details())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x9_b24_a_message_is_one_line_and_all_of_it_is_short() {
        let failure = Failure::foreign(999, "first\nsecond\u{1b}[1m", "é".repeat(2000));
        let (code, answer) = (failure.code(), failure.render());
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((code, answer["msg"].as_str().unwrap()), (999, r"first second\u{1b}[1m"));
        assert_eq!(answer["details"].as_str().unwrap(), "é".repeat(450) + "…");
        let odd = Failure::new(Code::Io, format!("a{}", "é".repeat(2000)), "").render();
        let answer: serde_json::Value = serde_json::from_str(&odd).unwrap();
        assert_eq!(answer["msg"].as_str().unwrap(), format!("a{}…", "é".repeat(499)));
    }

    #[test]
    fn every_kind_of_attachment_error_maps_to_a_cni_code_and_keeps_its_message() {
        let codes = [
            (Kind::Io, 5),
            (Kind::Busy, 11),
            (Kind::RangeFull, 100),
            (Kind::AlreadyAttached, 101),
            (Kind::Kernel, 102),
            (Kind::ReservationLost, 103),
            (Kind::Damaged, 103),
            (Kind::ForeignRecord, 103),
            (Kind::Encoding, 103),
            (Kind::AddressUnavailable, 104),
            (Kind::PortTaken, 105),
        ];
        for (kind, code) in codes {
            let failure = Failure::from(Error::new(kind, "what is\nwrong", "the way out"));
            assert_eq!((failure.code(), failure.to_string()), (code, "what is wrong (the way out)".into()), "{kind:?}");
        }
    }

    #[test]
    fn x3_x4_x5_codes_are_those_of_the_specification_or_our_own() {
        let own = [
            (Code::IncompatibleVersion, 1),
            (Code::UnsupportedField, 2),
            (Code::Environment, 4),
            (Code::Io, 5),
            (Code::Decode, 6),
            (Code::Configuration, 7),
            (Code::Namespace, 8),
            (Code::TryAgain, 11),
            (Code::Unavailable, 50),
            (Code::Limited, 51),
            (Code::Exhausted, 100),
            (Code::AlreadyAttached, 101),
            (Code::Kernel, 102),
            (Code::Ledger, 103),
            (Code::AddressUnavailable, 104),
            (Code::PortTaken, 105),
            (Code::Differs, 106),
            (Code::Internal, 999),
        ];
        for (code, number) in own {
            assert_eq!(Failure::new(code, "", "").code(), number, "{code:?}");
        }
    }
}
