//! Why a packet passes or not: at each end the rule that allows it, or the policies that isolate.

use crate::policy::compiled::{Compiled, Packet};
use crate::policy::network_policy::{Direction, PolicyName};

/// What each end says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The source's egress.
    pub egress: End,
    /// The destination's ingress.
    pub ingress: End,
}

/// What one end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is allowed: no policy isolates a pod of this node that has this address.
    NotIsolated,
    /// It is allowed: the pod reaches itself.
    Itself,
    /// It is allowed by a rule.
    Allowed {
        /// The first policy, in the order of names, that has such a rule.
        policy: PolicyName,
        /// The rule's place in `ingress` or `egress` of the policy, from 0 on.
        rule: usize,
    },
    /// It is denied: these policies isolate the pod, and no rule of theirs allows it.
    Denied {
        /// In the order of names.
        policies: Vec<PolicyName>,
    },
}

impl End {
    /// Whether the packet passes it.
    pub fn allows(&self) -> bool {
        !matches!(self, Self::Denied { .. })
    }
}

impl Compiled {
    /// Why a packet that begins a connection passes or not.
    pub fn explain(&self, packet: &Packet) -> Explanation {
        let [ingress, egress] = Direction::BOTH.map(|direction| self.end(direction, packet));
        Explanation { egress, ingress }
    }

    fn end(&self, direction: Direction, packet: &Packet) -> End {
        let (own, peer) = packet.ends(direction);
        let subject = self.matrix(direction).subjects.get(&own);
        let Some(rules) = subject.and_then(|subject| self.behind.rules.get(subject)) else { return End::NotIsolated };
        if own == peer {
            return End::Itself;
        }
        let class = self.class(peer).and_then(|class| self.behind.classes.get(&class));
        let decides = rules.first(class, packet.port);
        match decides.and_then(|rule| Some((rules.policies.get(rule.policy)?, rule.rule))) {
            Some((policy, rule)) => End::Allowed { policy: policy.clone(), rule },
            None => End::Denied { policies: rules.policies.clone() },
        }
    }
}
