//! Objects that are not accepted: which, and everything that is wrong with it, each with the field, the value and what is
//! allowed there.

use std::fmt;

use ipnetwork::IpNetwork;
use podwire_conf::shown;
use thiserror::Error;

/// The most of a value that is shown, in characters.
pub(super) const SHOWN: usize = 80;

/// The most complaints about one object that are kept.
const COMPLAINTS: usize = 16;

/// An object that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Rejected {
    /// Its kind, such as `NetworkPolicy`; empty where that is not known.
    pub kind: String,
    /// Its name, after its namespace where it has one.
    pub name: String,
    /// What is wrong with it: at least one.
    pub complaints: Vec<Complaint>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The field, from the object on; empty for the object itself.
    pub field: String,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The value cannot be written so.
    #[error("{value} is not valid: {allowed}")]
    Syntax {
        /// As it is written.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// It has another type than the field.
    #[error("{0}")]
    Type(String),
    /// The field has to be there.
    #[error("is missing: {0}")]
    Missing(&'static str),
    /// There is no such field.
    #[error("is not known; there is {0}")]
    UnknownField(String),
    /// A number that is no port.
    #[error("{0} is no port; use 1 to 65535")]
    NoPort(i64),
    /// It cannot be there beside another field.
    #[error("cannot be used: {0}")]
    Conflict(&'static str),
    /// The range ends before it begins.
    #[error("{last} is less than port {first}; use {first} to 65535")]
    EndsBefore {
        /// The port that it begins at.
        first: u16,
        /// The port that it ends at.
        last: u16,
    },
    /// It is no prefix.
    #[error("{0} is not a prefix; use ADDRESS/LENGTH with at most /32 (IPv4) or /128 (IPv6)")]
    NoPrefix(String),
    /// It is no address.
    #[error("{0} is not an address of IPv4 or IPv6")]
    NoAddress(String),
    /// An exception that is no part of its prefix.
    #[error("{except} is not a part of {cidr}; use a longer prefix inside of it")]
    OutsideOfCidr {
        /// The exception.
        except: IpNetwork,
        /// The prefix that it is to be an exception of.
        cidr: IpNetwork,
    },
    /// There is one of this kind and name before it.
    #[error("is there twice; leave one")]
    Twice,
    /// There are more of them than can be.
    #[error("has {count} entries; at most {most} are allowed")]
    TooMany {
        /// So many.
        count: usize,
        /// The most.
        most: usize,
    },
}

/// Complaints about an object, as they are come by.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<Complaint>);

impl Complaints {
    /// Something is wrong with a field.
    pub(super) fn add(&mut self, field: impl Into<String>, reason: Reason) {
        if self.0.len() < COMPLAINTS {
            self.0.push(Complaint { field: field.into(), reason });
        }
    }

    /// A value has to have this syntax.
    pub(super) fn syntax(&mut self, field: &str, value: &str, of: fn(&str) -> Result<(), &'static str>) {
        if let Err(allowed) = of(value) {
            self.add(field, Reason::Syntax { value: quoted(value), allowed });
        }
    }

    /// A list has to have at most so many entries. Nobody looks at what a list has beyond.
    pub(super) fn bound(&mut self, field: &str, count: usize, most: usize) {
        if count > most {
            self.add(field, Reason::TooMany { count, most });
        }
    }

    /// The object, if nothing is wrong with it.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn accept<T>(self, kind: &str, name: String, object: T) -> Result<T, Rejected> {
        if self.0.is_empty() { Ok(object) } else { Err(Rejected { kind: kind.into(), name, complaints: self.0 }) }
    }
}

/// A value as it is shown.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{}\"", shown::bounded(value, SHOWN))
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = [self.kind.as_str(), &self.name].map(|part| shown::bounded(part, 2 * 253));
        let (what, complaints) = (what.join(" "), self.complaints.iter().enumerate());
        f.write_str(what.trim())?;
        for (place, complaint) in complaints {
            // Where it is not known which object it is, the complaint is all there is.
            let separator = match place {
                0 if what.trim().is_empty() => "",
                0 => ": ",
                _ => "; ",
            };
            let field = shown::bounded(&complaint.field, 2 * SHOWN);
            write!(f, "{separator}{field}{}{}", if field.is_empty() { "" } else { ": " }, complaint.reason)?;
        }
        Ok(())
    }
}
