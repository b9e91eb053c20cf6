//! Why a packet passes or not: at each end the rule that allows or denies it, or the policies that isolate.

use std::net::IpAddr;

use crate::policy::compiled::{Compiled, Packet};
use crate::policy::judge::Judge;
use crate::policy::network_policy::{Direction, PolicyName};
use crate::policy::port::Ports;
use crate::policy::rules::{ClassKey, Rules, SubjectRule};
use crate::policy::text::Text;
use crate::policy::tier::Tier;
use crate::policy::tiers::{Asked, Outcome, Policy, Selecting, Tiers};

/// The most rules that are named which allow a peer something else.
const OTHERS: usize = 16;

/// What each end says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The source's egress.
    pub egress: End,
    /// The destination's ingress.
    pub ingress: End,
    /// The rules of ClusterNetworkPolicies that have passed it on to the next tier: of the source's egress.
    pub egress_passed: Vec<ByCluster>,
    /// And of the destination's ingress.
    pub ingress_passed: Vec<ByCluster>,
}

/// A rule of a ClusterNetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByCluster {
    /// The policy.
    pub policy: Text,
    /// Its tier.
    pub tier: Tier,
    /// Its priority in the tier.
    pub priority: u16,
    /// The rule's place in it, from 0 on.
    pub rule: usize,
    /// What people call the rule; empty where they do not.
    pub name: Text,
}

/// What one end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is allowed: no policy isolates a pod of this node that has this address.
    NotIsolated,
    /// It is allowed: the pod reaches itself.
    Itself,
    /// It is denied: the pod is attached here, and no object of it is known, nor therefore what policies say.
    Unknown,
    /// It is allowed by a rule.
    Allowed {
        /// The first policy, in the order of names, that has such a rule.
        policy: PolicyName,
        /// The rule's place in `ingress` or `egress` of the policy, from 0 on.
        rule: usize,
    },
    /// It is allowed by a rule of a ClusterNetworkPolicy.
    Accepted(ByCluster),
    /// It is denied by a rule of a ClusterNetworkPolicy.
    Refused(ByCluster),
    /// It is allowed, and would be denied by this rule if its ClusterNetworkPolicy were enforced.
    WouldRefuse(ByCluster),
    /// It is denied: these policies isolate the pod, and no rule of theirs allows it.
    Denied {
        /// In the order of names.
        policies: Vec<PolicyName>,
        /// What they allow this peer on other ports, the first few.
        others: Vec<Allowing>,
    },
    /// It is allowed, and would not be if these policies were enforced, of which none that is isolates the pod.
    WouldDeny {
        /// In the order of names.
        policies: Vec<PolicyName>,
        /// What they would allow this peer on other ports, the first few.
        others: Vec<Allowing>,
    },
}

/// A rule, and the ports that it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowing {
    /// The policy.
    pub policy: PolicyName,
    /// The rule's place in it, from 0 on.
    pub rule: usize,
    /// The ports. Names of the subject's own ports stand as their numbers.
    pub ports: Vec<Ports>,
}

impl End {
    /// Whether the packet passes it.
    pub fn allows(&self) -> bool {
        !matches!(self, Self::Denied { .. } | Self::Refused(_) | Self::Unknown)
    }
}

impl Compiled {
    /// Why a packet that begins a connection passes or not.
    pub fn explain(&self, packet: &Packet) -> Explanation {
        let [(ingress, ingress_passed), (egress, egress_passed)] =
            Direction::BOTH.map(|direction| self.end(direction, packet));
        Explanation { egress, ingress, egress_passed, ingress_passed }
    }

    fn end(&self, direction: Direction, packet: &Packet) -> (End, Vec<ByCluster>) {
        let (own, peer) = packet.ends(direction);
        if self.unknown.contains(&own) {
            return (if own == peer { End::Itself } else { End::Unknown }, Vec::new());
        }
        let subject = self.matrix(direction).subjects.get(&own);
        let judge = subject.and_then(|subject| self.behind.judges.get(subject));
        let class = self.class(peer).and_then(|class| self.behind.classes.get(&class));
        let audited = self.matrix(direction).audited.contains(&own);
        match judge {
            None => (End::NotIsolated, Vec::new()),
            Some(Judge::Rules(_)) if own == peer && audited => (End::NotIsolated, Vec::new()),
            Some(_) if own == peer => (End::Itself, Vec::new()),
            Some(Judge::Rules(rules)) => (by_rules(rules, class, packet, audited), Vec::new()),
            Some(Judge::Tiers(tiers)) => by_tiers(tiers, class, packet),
        }
    }

    /// The policies that isolate an address of this node in a direction, in the order of names; none where it is not isolated. A
    /// policy that is not enforced isolates nothing.
    pub fn isolating(&self, direction: Direction, address: IpAddr) -> Vec<&PolicyName> {
        let matrix = self.matrix(direction);
        match matrix.subjects.get(&address).and_then(|subject| self.behind.judges.get(subject)) {
            Some(Judge::Rules(rules)) if !matrix.audited.contains(&address) => rules.policies.iter().collect(),
            Some(Judge::Tiers(tiers)) => tiers.isolating(Asked::Enforced).collect(),
            _ => Vec::new(),
        }
    }

    /// The ClusterNetworkPolicies whose rules judge an address of this node in a direction, in the order in which they are asked, each
    /// with whether it is not enforced.
    pub fn judging(&self, direction: Direction, address: IpAddr) -> Vec<(&Text, bool)> {
        let subject = self.matrix(direction).subjects.get(&address);
        let Some(Judge::Tiers(tiers)) = subject.and_then(|subject| self.behind.judges.get(subject)) else {
            return Vec::new();
        };
        let clusters = tiers.policies.iter().filter_map(|selecting| match &selecting.policy {
            Policy::Cluster { name, .. } => Some((name, selecting.audit)),
            Policy::Network(_) => None,
        });
        clusters.collect()
    }
}

/// What NetworkPolicies say where there is nothing else.
fn by_rules(rules: &Rules, class: Option<&ClassKey>, packet: &Packet, audited: bool) -> End {
    let decides = rules.first(class, packet.port);
    match decides.and_then(|rule| Some((rules.policies.get(rule.policy)?, rule.rule))) {
        Some(_) if audited => End::NotIsolated,
        None if audited => End::WouldDeny { policies: rules.policies.clone(), others: others(rules, class) },
        Some((policy, rule)) => End::Allowed { policy: policy.clone(), rule },
        None => End::Denied { policies: rules.policies.clone(), others: others(rules, class) },
    }
}

/// What the tiers say, and which rules have passed the packet on.
fn by_tiers(tiers: &Tiers, class: Option<&ClassKey>, packet: &Packet) -> (End, Vec<ByCluster>) {
    let of_peer = tiers.of_peer(class);
    let decide = |asked, passes: &mut Vec<ByCluster>| {
        let passed = |place| passes.extend(by_cluster(tiers, place));
        tiers.decide(&of_peer, asked, |rule| rule.is_about(class, packet.port), passed)
    };
    let others = || of_network(tiers, &of_peer);
    let mut passed = Vec::new();
    let end = match decide(Asked::Enforced, &mut passed) {
        Outcome::Denied(None) => {
            End::Denied { policies: tiers.isolating(Asked::Enforced).cloned().collect(), others: others() }
        }
        Outcome::Denied(Some(place)) => by_cluster(tiers, place).map_or(End::NotIsolated, End::Refused),
        Outcome::Allowed(place) => match (decide(Asked::All, &mut Vec::new()), place) {
            (Outcome::Denied(None), _) => {
                End::WouldDeny { policies: tiers.isolating(Asked::All).cloned().collect(), others: others() }
            }
            (Outcome::Denied(Some(place)), _) => by_cluster(tiers, place).map_or(End::NotIsolated, End::WouldRefuse),
            (Outcome::Allowed(_), None) => End::NotIsolated,
            (Outcome::Allowed(_), Some(place)) => match tiers.rule(place) {
                Some((rule, Selecting { policy: Policy::Network(policy), .. })) => {
                    End::Allowed { policy: policy.clone(), rule: rule.rule }
                }
                _ => by_cluster(tiers, place).map_or(End::NotIsolated, End::Accepted),
            },
        },
    };
    (end, passed)
}

/// A rule of a ClusterNetworkPolicy, by its place.
fn by_cluster(tiers: &Tiers, place: usize) -> Option<ByCluster> {
    let (rule, selecting) = tiers.rule(place)?;
    let Policy::Cluster { name, tier, priority } = &selecting.policy else { return None };
    let (tier, priority) = (*tier, *priority);
    Some(ByCluster { policy: name.clone(), tier, priority, rule: rule.rule, name: rule.name.clone() })
}

/// What NetworkPolicies among the tiers allow a peer on ports that are not asked for.
fn of_network(tiers: &Tiers, of_peer: &[usize]) -> Vec<Allowing> {
    let allowing = of_peer.iter().filter_map(|place| match tiers.rule(*place)? {
        (rule, Selecting { policy: Policy::Network(policy), .. }) => {
            let ports = rule.ports.clone().filter(|ports| !ports.is_empty())?;
            Some(Allowing { policy: policy.clone(), rule: rule.rule, ports })
        }
        _ => None,
    });
    allowing.take(OTHERS).collect()
}

/// What rules allow a peer on ports that are not asked for.
fn others(rules: &Rules, class: Option<&ClassKey>) -> Vec<Allowing> {
    let mut found: Vec<&SubjectRule> = rules.of_peer(class).collect();
    found.sort_by_key(|rule| (rule.policy, rule.rule));
    found.dedup_by_key(|rule| (rule.policy, rule.rule));
    let allowing = |rule: &SubjectRule| {
        let ports = rule.ports.clone().filter(|ports| !ports.is_empty())?;
        Some(Allowing { policy: rules.policies.get(rule.policy)?.clone(), rule: rule.rule, ports })
    };
    found.into_iter().filter_map(allowing).take(OTHERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_which_no_object_is_known_is_denied_everything_but_itself() {
        let [own, other] = ["10.1.0.1", "10.1.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
        let compiled = Compiled { unknown: [own].into(), ..Compiled::default() };
        let explain = |source, destination| {
            let packet = Packet { source, destination, port: None };
            let explanation = compiled.explain(&packet);
            assert_eq!(
                (explanation.egress.allows(), explanation.ingress.allows()),
                (compiled.verdict(&packet).egress, compiled.verdict(&packet).ingress)
            );
            (explanation.egress, explanation.ingress)
        };
        assert_eq!(explain(other, own), (End::NotIsolated, End::Unknown));
        assert_eq!(explain(own, other), (End::Unknown, End::NotIsolated));
        assert_eq!(explain(own, own), (End::Itself, End::Itself));
    }
}
