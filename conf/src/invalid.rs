//! What is wrong with a configuration.

use std::fmt;

/// What is wrong with a configuration: the field, its value, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, as in `ipam.ranges[0][0].subnet`.
    pub field: String,
    /// Why it cannot be used, with the value.
    pub why: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for Invalid {}

pub(crate) fn invalid<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), why: why.into() })
}
