//! What ADD does about NetworkPolicy: it returns once the policies of its pod are in force, or the pod is treated as one whose
//! policies are not known. The daemon writes this into the conflist (`networkPolicy`), the plugin reads it.

use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::invalid::Invalid;
use crate::json::Field;

/// The longest time that a runtime may be made to wait, in milliseconds: kubelet gives up after minutes, others before.
const LONGEST: u64 = 60_000;

/// What ADD does about NetworkPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// What becomes of a pod whose policies are not known.
    pub unknown: Unknown,
    /// How long ADD waits for the daemon's word.
    pub timeout: Duration,
}

/// What becomes of a pod whose policies are not known: the daemon has not answered, or has not heard of the pod yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing reaches it and it reaches nothing but its own node.
    #[default]
    Deny,
    /// It has its network as without policies.
    Allow,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { unknown: Unknown::default(), timeout: Duration::from_secs(2) }
    }
}

impl Unknown {
    /// Each by the name that configurations have for it.
    pub const NAMES: [(&'static str, Self); 2] = [("deny", Self::Deny), ("allow", Self::Allow)];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

impl NetworkPolicy {
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Invalid> {
        let default = Self::default();
        let unknown = match field.get("unknown")? {
            None => default.unknown,
            Some(field) => match Unknown::NAMES.iter().find(|(name, _)| field.value() == name) {
                Some((_, unknown)) => *unknown,
                None => return field.wrong("is neither \"deny\" nor \"allow\""),
            },
        };
        let timeout = match field.get("timeoutMilliseconds")? {
            None => default.timeout,
            Some(field) => match field.value().as_u64().filter(|milliseconds| (1..=LONGEST).contains(milliseconds)) {
                Some(milliseconds) => Duration::from_millis(milliseconds),
                None => return field.wrong(format!("is not a number of milliseconds from 1 to {LONGEST}")),
            },
        };
        Ok(Self { unknown, timeout })
    }
}

impl Serialize for NetworkPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("unknown", self.unknown.name())?;
        map.serialize_entry("timeoutMilliseconds", &self.timeout.as_millis())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_cannot_be_is_named() {
        let read = |value: &serde_json::Value| NetworkPolicy::read(&Field::root(value));
        let written = NetworkPolicy { unknown: Unknown::Allow, timeout: Duration::from_millis(250) };
        assert_eq!(read(&serde_json::to_value(written).unwrap()), Ok(written));
        assert_eq!(read(&json!({})), Ok(NetworkPolicy::default()));
        for (wrong, why) in [
            (json!({"unknown": "drop"}), "unknown: \"drop\" is neither \"deny\" nor \"allow\""),
            (
                json!({"timeoutMilliseconds": 0}),
                "timeoutMilliseconds: 0 is not a number of milliseconds from 1 to 60000",
            ),
            (
                json!({"timeoutMilliseconds": 60_001}),
                "timeoutMilliseconds: 60001 is not a number of milliseconds from 1 to 60000",
            ),
        ] {
            assert_eq!(read(&wrong).unwrap_err().to_string(), why);
        }
    }
}
