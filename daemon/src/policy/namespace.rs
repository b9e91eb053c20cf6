//! A namespace: its name and its labels.

use podwire_conf::syntax;
use serde::Deserialize;

use crate::policy::labels::Labels;
use crate::policy::metadata::Metadata;
use crate::policy::rejected::{Complaints, Rejected};
use crate::policy::text::Text;

/// The label that every namespace has, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Text,
    /// Its labels; the one with its name is always there.
    pub labels: Labels,
}

impl Namespace {
    /// A namespace that no object tells of: it has the label with its name, as every namespace, and no others.
    pub fn without_object(name: &Text) -> Self {
        Self { name: name.clone(), labels: Labels::new([(Text::from(NAME_LABEL), name.clone())]) }
    }
}

/// A Namespace as the API writes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Wire {
    /// Its metadata.
    #[serde(default)]
    pub metadata: Metadata,
}

impl TryFrom<Wire> for Namespace {
    type Error = Rejected;

    fn try_from(Wire { metadata }: Wire) -> Result<Self, Rejected> {
        let mut complaints = Complaints::default();
        complaints.syntax("metadata.name", &metadata.name, syntax::label);
        let labels = metadata.labels(&[(NAME_LABEL, &metadata.name)], &mut complaints);
        let namespace = Self { name: metadata.name.as_str().into(), labels };
        complaints.accept("Namespace", metadata.name, namespace)
    }
}
