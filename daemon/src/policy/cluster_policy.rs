//! A ClusterNetworkPolicy (`policy.networking.k8s.io`): which pods of the cluster it is about, when it is asked, and its rules in
//! order. With the validation of the API server, since files are not read by one.
//!
//! What a rule has that is not supported makes it fail closed, as the API demands: one that accepts matches nothing, any other denies
//! everything.

use podwire_conf::syntax;
use serde::Deserialize;

use crate::policy::cluster_rule::{self, ClusterRule};
use crate::policy::labels::Labels;
use crate::policy::metadata::Metadata;
use crate::policy::network_policy::Direction;
use crate::policy::pod::Pod;
use crate::policy::pods_of;
use crate::policy::rejected::{Complaints, Reason, Rejected, quoted};
use crate::policy::selector::Selector;
use crate::policy::text::Text;
use crate::policy::tier::Tier;
use crate::policy::unsupported::Unsupported;

/// The most rules of a direction; the API allows 25.
const RULES: usize = 256;

/// The greatest priority, which is asked last.
const LAST: u16 = 1000;

/// A ClusterNetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPolicy {
    /// Its name.
    pub name: Text,
    /// Its UID; empty for one from a file that has none.
    pub uid: Box<str>,
    /// Whether it is not enforced: what it would refuse is counted (annotation `podwire.dev/audit`).
    pub audit: bool,
    /// When it is asked.
    pub tier: Tier,
    /// Its place in the tier: a lower one is asked first. Of two that have one, the first by name.
    pub priority: u16,
    /// The namespaces whose pods it is about.
    pub namespaces: Selector,
    /// The pods in them.
    pub pods: Selector,
    /// The rules for traffic to them, in order; without any it does not concern that traffic.
    pub ingress: Box<[ClusterRule]>,
    /// The rules for traffic from them, in order; without any it does not concern that traffic.
    pub egress: Box<[ClusterRule]>,
    /// What its rules have that is not supported.
    pub unsupported: Box<[Unsupported]>,
}

impl ClusterPolicy {
    /// The rules of a direction.
    pub fn rules(&self, direction: Direction) -> &[ClusterRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Whether it is about a pod whose namespace has these labels; nothing where the namespace is not known.
    pub fn selects(&self, pod: &Pod, namespace: Option<&Labels>) -> bool {
        !pod.host_network
            && self.pods.matches(&pod.labels)
            && namespace.is_some_and(|labels| self.namespaces.matches(labels))
    }

    /// Its place among all, as far as the API leaves it open decided by name and UID.
    pub fn order(&self) -> (Tier, u16, &Text, &str) {
        (self.tier, self.priority, &self.name, &self.uid)
    }
}

/// A ClusterNetworkPolicy as the API writes it; what is not needed is skipped unread.
#[derive(Debug, Clone, Deserialize)]
pub struct Wire {
    /// Its metadata.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    tier: Option<String>,
    priority: Option<i64>,
    subject: Option<pods_of::Wire>,
    ingress: Option<Vec<cluster_rule::Wire>>,
    egress: Option<Vec<cluster_rule::Wire>>,
}

impl TryFrom<Wire> for ClusterPolicy {
    type Error = Rejected;

    fn try_from(Wire { metadata, spec }: Wire) -> Result<Self, Rejected> {
        let mut complaints = Complaints::default();
        complaints.syntax("metadata.name", &metadata.name, syntax::subdomain);
        let Spec { tier, priority, subject, ingress, egress } = spec.unwrap_or_default();
        let named = tier.as_deref().unwrap_or_default();
        let tier = Tier::parse(named);
        if tier.is_none() {
            complaints.add("spec.tier", Reason::Syntax { value: quoted(named), allowed: "Admin or Baseline" });
        }
        let priority = priority.unwrap_or(-1);
        let place = u16::try_from(priority).ok().filter(|place| *place <= LAST);
        if place.is_none() {
            let value = priority.to_string();
            complaints.add("spec.priority", Reason::Syntax { value, allowed: "0, which is asked first, to 1000" });
        }
        let subject = subject.unwrap_or_default();
        if subject.count() != 1 {
            complaints.add("spec.subject", Reason::Missing("a subject has either namespaces or pods"));
        }
        let (namespaces, pods) = subject.read("spec.subject", &mut complaints).unwrap_or_default();
        let mut unsupported = Vec::new();
        let mut rules = |rules: Option<Vec<cluster_rule::Wire>>, name: &str, of_peers: &str| -> Box<[ClusterRule]> {
            let (rules, field) = (rules.unwrap_or_default(), format!("spec.{name}"));
            complaints.bound(&field, rules.len(), RULES);
            let rules = rules.into_iter().take(RULES).enumerate();
            let read = |(place, rule): (usize, cluster_rule::Wire)| {
                rule.read(&format!("{field}[{place}]"), of_peers, &mut unsupported, &mut complaints)
            };
            rules.filter_map(read).collect()
        };
        let (ingress, egress) = (rules(ingress, "ingress", "from"), rules(egress, "egress", "to"));
        let policy = Self {
            name: metadata.name.as_str().into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            audit: metadata.is_audited(),
            tier: tier.unwrap_or(Tier::Admin),
            priority: place.unwrap_or(LAST),
            namespaces,
            pods,
            ingress,
            egress,
            unsupported: unsupported.into(),
        };
        complaints.accept("ClusterNetworkPolicy", metadata.name, policy)
    }
}
