//! The elements of one direction, gathered from all that judges its pods.
//!
//! What may not live here: from what they follow (`rules`, `rows`).

use crate::policy::element::{Class, Combination, Decided, Listed, Listing, Subject};
use crate::policy::port_lists::PortLists;
use crate::policy::port_ranges::PortRanges;
use crate::policy::too_large::{TooLarge, bounded};

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

impl Written {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.allowed.len() + self.decided.len() + self.listings.len()
    }
}
