//! The rules for one subject that ClusterNetworkPolicies select: those of all tiers in the order in which they are asked, and what
//! they come to for a peer and a port.
//!
//! What may not live here: the elements that follow from it (`rows`).

use std::collections::HashMap;

use crate::policy::network_policy::PolicyName;
use crate::policy::port::Ports;
use crate::policy::rules::ClassKey;
use crate::policy::text::Text;
use crate::policy::tier::{Action, Tier};

/// The rules for one subject in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tiers {
    /// The policies that select it, in the order in which they are asked.
    pub(super) policies: Vec<Selecting>,
    /// Their rules, in that order.
    rules: Vec<TierRule>,
    /// Those that are about peers by a selector or block.
    by_atom: HashMap<u32, Vec<usize>>,
    /// Those that are about everybody.
    for_all: Vec<usize>,
}

/// A policy that selects a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selecting {
    pub(super) policy: Policy,
    /// Whether it is not enforced.
    pub(super) audit: bool,
}

/// A policy by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Policy {
    Network(PolicyName),
    Cluster { name: Text, tier: Tier, priority: u16 },
}

/// A rule of any of the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TierRule {
    /// Its policy, by its place.
    pub(super) policy: usize,
    /// Its place in the policy.
    pub(super) rule: usize,
    /// What people call it.
    pub(super) name: Text,
    pub(super) action: Action,
    /// Ports; those of ingress rules are numbers. `None`: all, of every protocol.
    pub(super) ports: Option<Vec<Ports>>,
}

/// Which policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Those that are enforced.
    Enforced,
    /// Those that are not, too.
    All,
}

/// What the tiers come to: allowed or denied, by a rule, or else because nothing denies it, or because NetworkPolicies isolate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed(Option<usize>),
    Denied(Option<usize>),
}

impl Policy {
    fn tier(&self) -> Tier {
        match self {
            Self::Network(_) => Tier::Network,
            Self::Cluster { tier, .. } => *tier,
        }
    }
}

impl Tiers {
    /// Adds a rule about the peers of these selectors and blocks, or about everybody. It is asked after those before.
    pub(super) fn add(&mut self, peers: Option<&[u32]>, rule: TierRule) {
        let place = self.rules.len();
        match peers {
            None => self.for_all.push(place),
            Some(atoms) => atoms.iter().for_each(|atom| self.by_atom.entry(*atom).or_default().push(place)),
        }
        self.rules.push(rule);
    }

    /// A rule by its place.
    pub(super) fn rule(&self, place: usize) -> Option<(&TierRule, &Selecting)> {
        let rule = self.rules.get(place)?;
        Some((rule, self.policies.get(rule.policy)?))
    }

    /// The rules that are about everybody.
    pub(super) fn of_all(&self) -> &[usize] {
        &self.for_all
    }

    /// Whether some are about the peers of a class and not about everybody.
    pub(super) fn tell_apart(&self, key: &ClassKey) -> bool {
        key.atoms.iter().any(|atom| self.by_atom.contains_key(atom))
    }

    /// The rules that are about a peer, each once and in order.
    pub(super) fn of_peer(&self, key: Option<&ClassKey>) -> Vec<usize> {
        let own = key.into_iter().flat_map(|key| &key.atoms).filter_map(|atom| self.by_atom.get(atom)).flatten();
        let mut places: Vec<_> = self.for_all.iter().chain(own).copied().collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Whether policies that are not enforced are among them.
    pub(super) fn have_audits(&self) -> bool {
        self.policies.iter().any(|selecting| selecting.audit)
    }

    /// The NetworkPolicies among those that are asked: they isolate.
    pub(super) fn isolating(&self, asked: Asked) -> impl Iterator<Item = &PolicyName> {
        let of = self.policies.iter().filter(move |selecting| asked == Asked::All || !selecting.audit);
        of.filter_map(|selecting| match &selecting.policy {
            Policy::Network(name) => Some(name),
            Policy::Cluster { .. } => None,
        })
    }

    /// What they come to, of the rules that are about a peer, as far as a rule matches by its ports. Each rule that passes on is told of.
    pub(super) fn decide(
        &self,
        of_peer: &[usize],
        asked: Asked,
        matches: impl Fn(&TierRule) -> bool,
        mut passes: impl FnMut(usize),
    ) -> Outcome {
        let isolated = self.isolating(asked).next().is_some();
        // Behind the tier that has been passed.
        let mut passed: Option<Tier> = None;
        for (place, rule, selecting) in
            of_peer.iter().filter_map(|place| self.rule(*place).map(|(rule, selecting)| (*place, rule, selecting)))
        {
            let tier = selecting.policy.tier();
            if (asked == Asked::Enforced && selecting.audit) || passed.is_some_and(|passed| tier <= passed) {
                continue;
            }
            // Who is isolated is allowed what NetworkPolicies allow: the next tier is not asked.
            if isolated && tier > Tier::Network {
                break;
            }
            if !matches(rule) {
                continue;
            }
            match rule.action {
                Action::Accept => return Outcome::Allowed(Some(place)),
                Action::Deny => return Outcome::Denied(Some(place)),
                Action::Pass => {
                    passes(place);
                    passed = Some(tier);
                }
            }
        }
        if isolated { Outcome::Denied(None) } else { Outcome::Allowed(None) }
    }
}
