//! A mistake in the settings file: where it is, what stands there, and what may stand there.

use std::fmt;

use ipnetwork::IpNetwork;
use podwire_conf::shown;

/// The most characters of a value that are shown.
const SHOWN: usize = 60;
/// The most mistakes that are named.
const NAMED: usize = 20;

/// A mistake in the settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1; nothing where the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong there.
    pub what: Wrong,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It is not TOML.
    Syntax(String),
    /// There is no setting of this name.
    Unknown {
        /// The name.
        key: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// The value is none that the setting can have.
    Value {
        /// The setting; of a list with the place of the value, from 0.
        key: String,
        /// The value, as it is written.
        found: String,
        /// What it can be.
        allowed: &'static str,
    },
    /// A prefix has bits set behind its length.
    HostBits {
        /// The setting, with the place in the list.
        key: String,
        /// As it is written.
        prefix: IpNetwork,
        /// Without these bits.
        meant: IpNetwork,
    },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        let short = |text: &str| shown::bounded(text, SHOWN);
        match &self.what {
            Wrong::Syntax(why) => write!(f, "not TOML: {}", short(why)),
            Wrong::Unknown { key, known } => {
                write!(f, "there is no setting {}; there are {}", short(key), known.join(", "))
            }
            Wrong::Value { key, found, allowed } => write!(f, "{key} = {}, but it has to be {allowed}", short(found)),
            Wrong::HostBits { key, prefix, meant } => {
                write!(f, "{key} = \"{prefix}\" has host bits set: did you mean {meant}?")
            }
        }
    }
}

/// All mistakes of a file, in order, on one line.
pub(super) fn listed(mistakes: &[Mistake], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let [mistake] = mistakes {
        return write!(f, "{mistake}");
    }
    write!(f, "{} mistakes", mistakes.len())?;
    for (place, mistake) in mistakes.iter().take(NAMED).enumerate() {
        write!(f, "{} {mistake}", if place == 0 { ":" } else { ";" })?;
    }
    if mistakes.len() > NAMED { write!(f, "; and {} more", mistakes.len() - NAMED) } else { Ok(()) }
}
