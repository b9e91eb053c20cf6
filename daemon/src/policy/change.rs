//! What one set has to lose and to gain.

use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What one set has to lose and to gain. A key that gets another value is in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<T> {
    /// To be removed.
    pub removed: Vec<T>,
    /// To be added.
    pub added: Vec<T>,
}

impl<T> Default for Change<T> {
    fn default() -> Self {
        Self { removed: Vec::new(), added: Vec::new() }
    }
}

impl<T: Ord> Change<T> {
    /// Of two lists in order.
    pub(super) fn between(old: impl Iterator<Item = T>, new: impl Iterator<Item = T>) -> Self {
        let (mut old, mut new) = (old.peekable(), new.peekable());
        let mut change = Self::default();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return change,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.cmp(new),
            };
            let (gone, come) = (old.next_if(|_| order.is_le()), new.next_if(|_| order.is_ge()));
            if order.is_ne() {
                change.removed.extend(gone);
                change.added.extend(come);
            }
        }
    }

    /// What this and another one that comes after it come to.
    pub(super) fn then(self, later: Self) -> Self {
        if self.is_empty() || later.is_empty() {
            return if later.is_empty() { self } else { later };
        }
        let sets = |change: Self| -> [BTreeSet<T>; 2] { [change.removed, change.added].map(BTreeSet::from_iter) };
        let ([mut removed, mut added], [gone, come]) = (sets(self), sets(later));
        // What was added and goes again was not there, and what was removed and comes again stays.
        let (gone, come): (Vec<_>, Vec<_>) = (
            gone.into_iter().filter(|one| !added.remove(one)).collect(),
            come.into_iter().filter(|one| !removed.remove(one)).collect(),
        );
        removed.extend(gone);
        added.extend(come);
        Self { removed: Vec::from_iter(removed), added: Vec::from_iter(added) }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}
