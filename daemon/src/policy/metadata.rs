//! What the API writes of every object: its name, namespace, UID, labels, and when it was created.

use std::collections::BTreeMap;

use podwire_conf::labels::LABELS;
use podwire_conf::syntax;
use serde::Deserialize;

use crate::policy::labels::Labels;
use crate::policy::rejected::Complaints;
use crate::policy::text::Text;

/// Metadata as the API writes it; what is not needed is skipped unread.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The object's name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its UID.
    pub uid: Option<String>,
    /// Its resource version.
    pub resource_version: Option<String>,
    creation_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<Annotations>,
}

/// The annotations that mean something here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "podwire.dev/audit")]
    pub(super) audit: Option<String>,
    /// Of a pod that a node has from a file, its mirror in the API: the UID that the node's runtime knows it by.
    #[serde(rename = "kubernetes.io/config.hash")]
    pub(super) config_hash: Option<String>,
}

impl Metadata {
    /// The namespace that it is in: where none is written, `default`, as for who writes files for the API.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
    }

    /// Namespace and name, for an error.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name)
    }

    /// Whether a policy is not enforced, and what it would refuse is counted.
    pub(super) fn is_audited(&self) -> bool {
        self.annotations.as_ref().is_some_and(|known| known.audit.as_deref() == Some("true"))
    }

    /// The UID that a node's runtime knows a pod by; nothing where there is none.
    pub(super) fn runtime_uid(&self) -> &str {
        let of_static = self.annotations.as_ref().and_then(|annotations| annotations.config_hash.as_deref());
        of_static.or(self.uid.as_deref()).unwrap_or_default()
    }

    /// When it was created, as a number that grows with time (the digits of the time in UTC).
    pub(super) fn created(&self) -> u64 {
        let digits = self.creation_timestamp.as_deref().unwrap_or_default().bytes().filter(u8::is_ascii_digit).take(14);
        digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    }

    /// Name and namespace of an object that is in one.
    pub(super) fn check_names(&self, complaints: &mut Complaints) {
        complaints.syntax("metadata.name", &self.name, syntax::subdomain);
        complaints.syntax("metadata.namespace", self.namespace(), syntax::label);
    }

    /// The labels, and these where they are not written.
    pub(super) fn labels(&self, defaults: &[(&str, &str)], complaints: &mut Complaints) -> Labels {
        let written = self.labels.iter().flatten();
        complaints.bound("metadata.labels", written.clone().count(), LABELS);
        for (key, value) in written.clone().take(LABELS) {
            complaints.syntax("metadata.labels", key, syntax::label_key);
            complaints.syntax(&format!("metadata.labels[{key}]"), value, syntax::label_value);
        }
        let written = written.take(LABELS).map(|(key, value)| (Text::from(key.as_str()), Text::from(value.as_str())));
        Labels::new(written.chain(defaults.iter().map(|(key, value)| (Text::from(*key), Text::from(*value)))))
    }
}
