//! What two compiled forms differ in, set by set: what a transaction has to remove and to add.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::policy::change::Change;
use crate::policy::compiled::{Compiled, Matrix};
use crate::policy::element::{
    BlockSegment, Class, Combination, Decided, Decision, ListedPort, Listing, PortList, PortSegment, Subject,
};
use crate::policy::network_policy::Direction;
use crate::policy::restricted::Restricted;

/// What two compiled forms differ in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Traffic to pods of this node.
    pub ingress: MatrixChanges,
    /// Traffic from pods of this node.
    pub egress: MatrixChanges,
    /// The classes of pods' addresses.
    pub peers: Change<(IpAddr, Class)>,
    /// The classes of segments.
    pub blocks: Change<BlockSegment>,
    /// The ranges of ports.
    pub ports: Change<PortSegment>,
    /// The lists of ports.
    pub listed: Change<ListedPort>,
    /// The addresses of pods that are not known.
    pub unknown: Change<IpAddr>,
    /// From which connections something may be taken away, of pods that are still there.
    pub restricted: Restricted,
    /// What peers that have gone have left behind: nobody uses it, but whoever gets such an address might.
    pub left_behind: Restricted,
}

/// What one direction differs in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatrixChanges {
    /// The subjects of addresses that are judged.
    pub subjects: Change<(IpAddr, Subject)>,
    /// The addresses whose subjects have decisions.
    pub tiered: Change<IpAddr>,
    /// The addresses of which it is counted what would be refused.
    pub audited: Change<IpAddr>,
    /// What is allowed.
    pub allowed: Change<Combination>,
    /// What is decided.
    pub decided: Change<Decided>,
    /// The lists of ports that subjects have for classes.
    pub listings: Change<Listing>,
}

impl Changes {
    /// What leads from one to the other.
    pub fn between(old: &Compiled, new: &Compiled) -> Self {
        fn pairs(compiled: &Compiled) -> impl Iterator<Item = (IpAddr, Class)> {
            compiled.peers.iter().map(|(address, class)| (*address, *class))
        }
        let changes = Self {
            ingress: MatrixChanges::between(&old.ingress, &new.ingress),
            egress: MatrixChanges::between(&old.egress, &new.egress),
            peers: Change::between(pairs(old), pairs(new)),
            blocks: Change::between(old.blocks.iter().copied(), new.blocks.iter().copied()),
            ports: Change::between(old.ports.iter().copied(), new.ports.iter().copied()),
            listed: Change::between(old.listed.iter().copied(), new.listed.iter().copied()),
            unknown: Change::between(old.unknown.iter().copied(), new.unknown.iter().copied()),
            restricted: Restricted::default(),
            left_behind: Restricted::default(),
        };
        // Without a look at who has the addresses, and at what the numbers mean. Where something is decided, who gets a class may be
        // refused by it.
        let decides = Direction::BOTH.iter().any(|direction| !new.matrix(*direction).tiered.is_empty());
        let segments = changes.blocks.removed.is_empty() && changes.ports.removed.is_empty();
        let more_segments = changes.blocks.added.is_empty() && changes.ports.added.is_empty();
        let restricted = match segments && (more_segments || !decides) {
            true => {
                let added = changes.peers.added.iter().filter(|_| decides);
                let peers = changes.peers.removed.iter().chain(added).map(|(address, _)| *address);
                let unknown = changes.unknown.added.iter().copied();
                changes.subjects_restricted(new).and(Restricted::with(peers.chain(unknown)))
            }
            false => Restricted::Any,
        };
        Self { restricted, ..changes }
    }

    /// The connections of pods that are isolated now, or in another way, or by policies that were not enforced, or that are not allowed
    /// something any more; `now`: what the changes led to.
    pub(super) fn subjects_restricted(&self, now: &Compiled) -> Restricted {
        let of = |direction| {
            let (changes, matrix) = (self.matrix(direction), now.matrix(direction));
            let fewer = changes.listings_with_fewer(|list| self.lines(list, now));
            Restricted::judged(direction, changes.takes_from(matrix, fewer))
        };
        let [ingress, egress] = Direction::BOTH.map(of);
        ingress.and(egress)
    }

    /// What a list says, that there is now or was before.
    fn lines<'a>(&'a self, list: PortList, now: &'a Compiled) -> &'a [ListedPort] {
        fn of(list: PortList, lines: &[ListedPort]) -> &[ListedPort] {
            let from = &lines[lines.partition_point(|line| line.list < list)..];
            &from[..from.partition_point(|line| line.list == list)]
        }
        // One that has gone is all here.
        match of(list, &self.listed.removed) {
            [] => of(list, &now.listed),
            gone => gone,
        }
    }

    /// What these and others that come after them come to.
    pub(super) fn then(self, later: Self) -> Self {
        Self {
            ingress: self.ingress.then(later.ingress),
            egress: self.egress.then(later.egress),
            peers: self.peers.then(later.peers),
            blocks: self.blocks.then(later.blocks),
            ports: self.ports.then(later.ports),
            listed: self.listed.then(later.listed),
            unknown: self.unknown.then(later.unknown),
            restricted: self.restricted.and(later.restricted),
            left_behind: self.left_behind.and(later.left_behind),
        }
    }

    /// One direction.
    pub fn matrix(&self, direction: Direction) -> &MatrixChanges {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The same, to be written.
    pub(super) fn matrix_mut(&mut self, direction: Direction) -> &mut MatrixChanges {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let matrices = [&self.ingress, &self.egress];
        matrices.iter().all(|matrix| matrix.is_empty())
            && self.peers.is_empty()
            && self.blocks.is_empty()
            && self.ports.is_empty()
            && self.listed.is_empty()
            && self.unknown.is_empty()
    }
}

impl MatrixChanges {
    fn between(old: &Matrix, new: &Matrix) -> Self {
        fn pairs(matrix: &Matrix) -> impl Iterator<Item = (IpAddr, Subject)> {
            matrix.subjects.iter().map(|(address, subject)| (*address, *subject))
        }
        Self {
            subjects: Change::between(pairs(old), pairs(new)),
            tiered: Change::between(old.tiered.iter().copied(), new.tiered.iter().copied()),
            audited: Change::between(old.audited.iter().copied(), new.audited.iter().copied()),
            allowed: Change::between(old.allowed.iter().copied(), new.allowed.iter().copied()),
            decided: Change::between(old.decided.iter().copied(), new.decided.iter().copied()),
            listings: Change::between(old.listings.iter().copied(), new.listings.iter().copied()),
        }
    }

    fn then(self, later: Self) -> Self {
        Self {
            subjects: self.subjects.then(later.subjects),
            tiered: self.tiered.then(later.tiered),
            audited: self.audited.then(later.audited),
            allowed: self.allowed.then(later.allowed),
            decided: self.decided.then(later.decided),
            listings: self.listings.then(later.listings),
        }
    }

    /// Whether there is nothing to do.
    fn is_empty(&self) -> bool {
        let Self { subjects, tiered, audited, allowed, decided, listings } = self;
        let elements = allowed.is_empty() && decided.is_empty() && listings.is_empty();
        subjects.is_empty() && tiered.is_empty() && audited.is_empty() && elements
    }

    /// The subjects whose lists allow some class less than before, or decide otherwise.
    fn listings_with_fewer<'a>(&self, lines: impl Fn(PortList) -> &'a [ListedPort]) -> BTreeSet<Subject> {
        let Change { removed, added } = &self.listings;
        let of = |listings: &[Listing], one: &Listing| {
            let place = listings.binary_search_by_key(&(one.subject, one.class), |one| (one.subject, one.class));
            place.map_or(&[][..], |place| lines(listings[place].list))
        };
        let has = |lines: &[ListedPort], line: &ListedPort| {
            lines.binary_search_by_key(&line.listed, |line| line.listed).is_ok()
        };
        let gone = removed.iter().filter(|one| {
            let after = of(added, one);
            lines(one.list).iter().any(|line| !has(after, line))
        });
        let come = added.iter().filter(|one| {
            let before = of(removed, one);
            lines(one.list).iter().any(|line| line.listed.2 != Decision::Allow && !has(before, line))
        });
        gone.chain(come).map(|one| one.subject).collect()
    }

    /// The addresses from which something is taken, or for which something else is decided; `now`: the direction after this, `fewer`: the
    /// subjects of those whose lists say it.
    fn takes_from(&self, now: &Matrix, fewer: BTreeSet<Subject>) -> Vec<IpAddr> {
        let Self { subjects, tiered, audited, allowed, decided, listings: _ } = self;
        let isolated = subjects.added.iter().map(|(address, _)| *address);
        let tiered = tiered.removed.iter().chain(&tiered.added).copied();
        let mut addresses: Vec<_> = isolated.chain(tiered).chain(audited.removed.iter().copied()).collect();
        // What is decided otherwise than before may be refused now.
        let decided = decided.removed.iter().chain(&decided.added);
        let fewer: BTreeSet<Subject> = allowed
            .removed
            .iter()
            .map(Combination::subject)
            .chain(decided.map(|decided| decided.combination.subject()))
            .chain(fewer)
            .collect();
        if !fewer.is_empty() {
            let of_those = now.subjects.iter().filter(|(_, subject)| fewer.contains(subject));
            addresses.extend(of_those.map(|(address, _)| *address));
        }
        addresses
    }
}
