//! Pods of namespaces, as ClusterNetworkPolicies write them: as their subject, and as peers of their rules.

use serde::Deserialize;

use crate::policy::rejected::{Complaints, Reason};
use crate::policy::selector::{self, Selector};

/// Pods: all those of some namespaces, or some of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    namespaces: Option<selector::Wire>,
    pods: Option<NamespacedWire>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NamespacedWire {
    namespace_selector: Option<selector::Wire>,
    pod_selector: Option<selector::Wire>,
}

impl Wire {
    /// How many of the two are there.
    pub(super) fn count(&self) -> usize {
        usize::from(self.namespaces.is_some()) + usize::from(self.pods.is_some())
    }

    /// The namespaces and the pods in them, as far as nothing is wrong; `None` where none of the two is there.
    pub(super) fn read(self, field: &str, complaints: &mut Complaints) -> Option<(Selector, Selector)> {
        if let Some(namespaces) = self.namespaces {
            return Some((namespaces.read(&format!("{field}.namespaces"), complaints), Selector::default()));
        }
        let NamespacedWire { namespace_selector, pod_selector } = self.pods?;
        // The API demands only the second of the two; without the first it means all namespaces.
        let namespaces = namespace_selector.unwrap_or_default();
        let namespaces = namespaces.read(&format!("{field}.pods.namespaceSelector"), complaints);
        let field = format!("{field}.pods.podSelector");
        let pods = match pod_selector {
            Some(pods) => pods.read(&field, complaints),
            None => {
                complaints.add(field, Reason::Missing("write {} for all of them"));
                Selector::default()
            }
        };
        Some((namespaces, pods))
    }
}
