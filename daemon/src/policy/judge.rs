//! What judges the pods of one subject in one direction: NetworkPolicies alone, which allow, or all tiers, which decide.

use std::collections::BTreeMap;

use crate::policy::element::{Class, Subject};
use crate::policy::elements::Elements;
use crate::policy::port::Which;
use crate::policy::rows::Row;
use crate::policy::rules::{ClassKey, Rules};
use crate::policy::tiers::Tiers;
use crate::policy::too_large::TooLarge;

/// What judges a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judge {
    /// NetworkPolicies, which isolate: what none of their rules allows is denied.
    Rules(Rules),
    /// Tiers, since ClusterNetworkPolicies select it, too.
    Tiers(Tiers),
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
