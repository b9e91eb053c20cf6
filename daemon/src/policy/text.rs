//! A string that is held once, however many objects have it: names of namespaces and nodes, keys and values of labels.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use crate::policy::pool::{Pool, Shared};

static TEXTS: Shared<str> = Shared::new(|| Mutex::new(Pool::new()));

/// A string that is held once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

impl Text {
    /// Where it is held: two that are equal are at one place.
    pub(super) fn place(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Pool::hold(&TEXTS, text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}
