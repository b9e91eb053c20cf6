//! Kinds that have a public name each: one macro defines the enum, its public names and `ALL`, so that none is forgotten in a
//! metric or in a document; and kinds as a document has them, which another version may have written.

/// Makes an enum of kinds. Each variant is written with its documentation and its name, which is also its name in JSON.
macro_rules! named {
    (
        $(#[$about:meta])*
        pub enum $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $kind { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl $kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name: kebab-case, stable, as in JSON and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use named;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind in a document, which may be of a newer podwired: one that is not known here stays as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Documented<K> {
    /// A kind that this podwired knows.
    Known(K),
    /// Another one.
    Unknown(Value),
}

impl<K> Documented<K> {
    /// The kind, where it is known here.
    pub fn known(&self) -> Option<&K> {
        match self {
            Self::Known(kind) => Some(kind),
            Self::Unknown(_) => None,
        }
    }
}

impl<K> From<K> for Documented<K> {
    fn from(kind: K) -> Self {
        Self::Known(kind)
    }
}

impl<K: Default> Default for Documented<K> {
    fn default() -> Self {
        Self::Known(K::default())
    }
}

impl<K: PartialEq> PartialEq<K> for Documented<K> {
    fn eq(&self, kind: &K) -> bool {
        self.known() == Some(kind)
    }
}
