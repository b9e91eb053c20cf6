//! What judges the pods of one subject in one direction: NetworkPolicies alone, which allow, or all tiers, which decide. And the
//! elements that follow from it.

use std::collections::BTreeMap;

use crate::policy::element::{Class, Combination, Decided, Subject};
use crate::policy::port::Which;
use crate::policy::port_ranges::PortRanges;
use crate::policy::rows::Row;
use crate::policy::rules::{ClassKey, Rules};
use crate::policy::tiers::Tiers;

/// What judges a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judge {
    /// NetworkPolicies, which isolate: what none of their rules allows is denied.
    Rules(Rules),
    /// Tiers, since ClusterNetworkPolicies select it, too.
    Tiers(Tiers),
}

/// Elements of one direction.
#[derive(Debug, Default)]
pub(super) struct Elements {
    /// What is allowed.
    pub(super) allowed: Vec<Combination>,
    /// What is decided.
    pub(super) decided: Vec<Decided>,
}

impl Elements {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.allowed.len() + self.decided.len()
    }

    /// The same in order.
    pub(super) fn sorted(mut self) -> Self {
        self.allowed.sort_unstable();
        self.decided.sort_unstable();
        self
    }
}

impl Judge {
    /// Adds what follows for everybody and for each class; stops once there are more than so many.
    pub(super) fn write(
        &self,
        subject: Subject,
        classes: &BTreeMap<Class, ClassKey>,
        ranges: &PortRanges,
        most: usize,
        elements: &mut Elements,
    ) {
        match self {
            Self::Rules(rules) => rules.allow(subject, classes, ranges, most, &mut elements.allowed),
            Self::Tiers(tiers) => {
                Row::of(tiers, None, ranges).of_everybody(subject, ranges, &mut elements.decided);
                self.write_classes(subject, classes, ranges, most, elements);
            }
        }
    }

    /// Adds what follows for some classes beside what follows for everybody; stops once there are more than so many.
    pub(super) fn write_classes(
        &self,
        subject: Subject,
        classes: &BTreeMap<Class, ClassKey>,
        ranges: &PortRanges,
        most: usize,
        elements: &mut Elements,
    ) {
        match self {
            Self::Rules(rules) => {
                let everybody = rules.everybody(ranges);
                for (class, key) in classes {
                    if elements.len() > most {
                        return;
                    }
                    rules.allow_class(subject, (*class, key), &everybody, ranges, &mut elements.allowed);
                }
            }
            Self::Tiers(tiers) => {
                let everybody = Row::of(tiers, None, ranges);
                let by_name =
                    tiers.of_all().iter().filter_map(|place| tiers.rule(*place)).any(|(rule, _)| {
                        rule.ports.iter().flatten().any(|ports| matches!(ports.which, Which::Named(_)))
                    });
                let differs = |key: &ClassKey| tiers.tell_apart(key) || (by_name && !key.named.is_empty());
                for (class, key) in classes.iter().filter(|(_, key)| differs(key)) {
                    if elements.len() > most {
                        return;
                    }
                    let row = Row::of(tiers, Some(key), ranges);
                    row.of_class((subject, *class), &everybody, ranges, &mut elements.decided);
                }
            }
        }
    }
}
