//! What judges the pods of one subject in one direction: NetworkPolicies alone, which allow, or all tiers, which decide. And the
//! elements that follow from it.

use std::collections::BTreeMap;

use crate::policy::compiler::{ELEMENTS, TooLarge};
use crate::policy::element::{Class, Combination, Decided, Listed, Listing, Subject};
use crate::policy::port::Which;
use crate::policy::port_lists::PortLists;
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

/// Elements of one direction, as they are written.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    /// The ports that ranges are made of.
    pub(super) ranges: &'a PortRanges,
    lists: &'a mut PortLists,
    /// What is allowed.
    pub(super) allowed: Vec<Combination>,
    /// What is decided.
    pub(super) decided: Vec<Decided>,
    listings: Vec<Listing>,
}

/// The same in order.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) allowed: Vec<Combination>,
    pub(super) decided: Vec<Decided>,
    pub(super) listings: Vec<Listing>,
}

impl<'a> Elements<'a> {
    /// None yet.
    pub(super) fn new(ranges: &'a PortRanges, lists: &'a mut PortLists) -> Self {
        Self { ranges, lists, allowed: Vec::new(), decided: Vec::new(), listings: Vec::new() }
    }

    /// What a subject says of ports for a class, if it does.
    pub(super) fn list(&mut self, subject: Subject, class: Class, listed: Vec<Listed>) {
        if !listed.is_empty() {
            let list = self.lists.list(listed);
            self.listings.push(Listing { subject, class, list });
        }
    }

    /// Refuses more than the kernel is given.
    pub(super) fn bounded(&self) -> Result<(), TooLarge> {
        let count = self.allowed.len() + self.decided.len() + self.listings.len();
        bounded(count.max(self.lists.ports()))
    }

    /// All of them.
    pub(super) fn written(mut self) -> Written {
        self.allowed.sort_unstable();
        self.decided.sort_unstable();
        self.listings.sort_unstable();
        Written { allowed: self.allowed, decided: self.decided, listings: self.listings }
    }
}

/// Refuses more elements than the kernel is given.
pub(super) fn bounded(count: usize) -> Result<(), TooLarge> {
    if count > ELEMENTS { Err(TooLarge::Elements { count }) } else { Ok(()) }
}

impl Written {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.allowed.len() + self.decided.len() + self.listings.len()
    }
}

impl Judge {
    /// Adds what follows for everybody and for each class.
    ///
    /// # Errors
    /// As soon as they are too many.
    pub(super) fn write(
        &self,
        subject: Subject,
        classes: &BTreeMap<Class, ClassKey>,
        elements: &mut Elements<'_>,
    ) -> Result<(), TooLarge> {
        match self {
            Self::Rules(rules) => rules.allow_everybody(subject, elements),
            Self::Tiers(tiers) => Row::of(tiers, None, elements.ranges).of_everybody(subject, elements),
        }
        elements.bounded()?;
        self.write_classes(subject, classes, elements)
    }

    /// Adds what follows for some classes beside what follows for everybody.
    ///
    /// # Errors
    /// As soon as they are too many.
    pub(super) fn write_classes(
        &self,
        subject: Subject,
        classes: &BTreeMap<Class, ClassKey>,
        elements: &mut Elements<'_>,
    ) -> Result<(), TooLarge> {
        match self {
            Self::Rules(rules) => {
                let everybody = rules.everybody(elements.ranges);
                for (class, key) in classes {
                    rules.allow_class(subject, (*class, key), &everybody, elements);
                    elements.bounded()?;
                }
            }
            Self::Tiers(tiers) => {
                let everybody = Row::of(tiers, None, elements.ranges);
                let by_name =
                    tiers.of_all().iter().filter_map(|place| tiers.rule(*place)).any(|(rule, _)| {
                        rule.ports.iter().flatten().any(|ports| matches!(ports.which, Which::Named(_)))
                    });
                let differs = |key: &ClassKey| tiers.tell_apart(key) || (by_name && !key.named.is_empty());
                for (class, key) in classes.iter().filter(|(_, key)| differs(key)) {
                    let row = Row::of(tiers, Some(key), elements.ranges);
                    row.of_class((subject, *class), &everybody, elements);
                    elements.bounded()?;
                }
            }
        }
        Ok(())
    }
}
