//! A NetworkPolicy: which pods of its namespace it isolates, in which directions, and what it allows them. With the defaults
//! and the validation of the API server, since files are not read by one.

use std::fmt;

use serde::Deserialize;

use crate::policy::metadata::Metadata;
use crate::policy::rejected::{Complaints, Reason, Rejected, quoted};
use crate::policy::rule::{self, Rule};
use crate::policy::selector::{self, Selector};
use crate::policy::text::Text;

/// The most rules of a direction.
const RULES: usize = 1024;

/// The direction of traffic, as seen from the pod that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];
}

/// A policy's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Its namespace and name.
    pub name: PolicyName,
    /// Its UID; empty for one from a file that has none.
    pub uid: Box<str>,
    /// Whether it is not enforced: it neither isolates nor allows, and what it would refuse of a pod that no other policy isolates is
    /// counted (annotation `podwire.dev/audit`).
    pub audit: bool,
    /// The pods of its namespace that it selects.
    pub selector: Selector,
    /// The rules for traffic to them; `None`: it does not isolate them in this direction.
    pub ingress: Option<Box<[Rule]>>,
    /// The rules for traffic from them; `None`: it does not isolate them in this direction.
    pub egress: Option<Box<[Rule]>>,
}

impl NetworkPolicy {
    /// The rules of a direction; `None`: it does not isolate in it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// A NetworkPolicy as the API writes it; what is not needed is skipped unread.
#[derive(Debug, Clone, Deserialize)]
pub struct Wire {
    /// Its metadata.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    pod_selector: Option<selector::Wire>,
    ingress: Option<Vec<rule::Wire>>,
    egress: Option<Vec<rule::Wire>>,
    policy_types: Option<Vec<String>>,
}

impl TryFrom<Wire> for NetworkPolicy {
    type Error = Rejected;

    fn try_from(Wire { metadata, spec }: Wire) -> Result<Self, Rejected> {
        let mut complaints = Complaints::default();
        metadata.check_names(&mut complaints);
        let spec = spec.unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        complaints.bound("spec.policyTypes", types.len(), 2);
        for (place, name) in types.iter().take(2).enumerate() {
            if !["Ingress", "Egress"].contains(&name.as_str()) {
                let reason = Reason::Syntax { value: quoted(name), allowed: "Ingress or Egress" };
                complaints.add(format!("spec.policyTypes[{place}]"), reason);
            }
        }
        let (ingress, egress) = (spec.ingress.unwrap_or_default(), spec.egress.unwrap_or_default());
        let has = |name: &str, default: bool| if types.is_empty() { default } else { types.iter().any(|t| t == name) };
        let (isolates_ingress, isolates_egress) = (has("Ingress", true), has("Egress", !egress.is_empty()));
        let selector = spec.pod_selector.unwrap_or_default().read("spec.podSelector", &mut complaints);
        // What is not in force is validated as well.
        let ingress = rules(ingress, "spec.ingress", "from", &mut complaints);
        let egress = rules(egress, "spec.egress", "to", &mut complaints);
        let name = PolicyName { namespace: metadata.namespace().into(), name: metadata.name.as_str().into() };
        let policy = Self {
            name,
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            audit: metadata.is_audited(),
            selector,
            ingress: isolates_ingress.then_some(ingress),
            egress: isolates_egress.then_some(egress),
        };
        complaints.accept("NetworkPolicy", metadata.full_name(), policy)
    }
}

fn rules(rules: Vec<rule::Wire>, field: &str, of_peers: &str, complaints: &mut Complaints) -> Box<[Rule]> {
    complaints.bound(field, rules.len(), RULES);
    let rules = rules.into_iter().take(RULES).enumerate();
    rules.map(|(place, rule)| rule.read(&format!("{field}[{place}]"), of_peers, complaints)).collect()
}
