//! The compiled form, followed from change to change: one pod that comes or goes costs what it changes, and not what the
//! cluster has. The parts of the last whole compile are kept, and a pod is looked up in them by the same steps; there is no
//! second compiler.
//!
//! What may not live here: who has an address (`owners`), and what a change is written to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::addresses::Addresses;
use crate::policy::change::Change;
use crate::policy::changes::{Changes, MatrixChanges};
use crate::policy::compiled::{Compiled, Matrix};
use crate::policy::compiler::{Compiler, Parts, distinct, local};
use crate::policy::element::{Class, Subject};
use crate::policy::elements::{Elements, Written};
use crate::policy::inputs::Inputs;
use crate::policy::network_policy::Direction;
use crate::policy::pod::Pod;
use crate::policy::restricted::Restricted;
use crate::policy::rules::ClassKey;
use crate::policy::subjects::Subjects;
use crate::policy::too_large::{TooLarge, bounded};

/// The compiled form, and what it was made by.
#[derive(Debug, Default)]
pub struct Incremental {
    compiler: Compiler,
    parts: Parts,
    compiled: Compiled,
    /// How many addresses of pods, and segments, each class has.
    users: HashMap<Class, usize>,
    /// Whether all this is true of what was followed last.
    stands: bool,
}

/// What may have changed since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Who has which address, and nothing else.
    Owners,
    /// That, and the pods that are attached here.
    Attached,
    /// That, and policies.
    Subjects,
    /// Everything.
    All,
}

impl Incremental {
    /// The compiled form as it is now.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Whether it can be followed what is less than everything.
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// Follows what has changed since the last time: what the new form differs in from the one before. The pods of the cluster are
    /// looked at only where nothing less will do; `owners` are those of the addresses that may have others than before.
    ///
    /// # Errors
    /// When it is too large. The next time everything is compiled; what has been followed until then is not told of any more.
    pub fn follow<'a>(
        &mut self,
        changed: Changed,
        mut inputs: Inputs<'a>,
        pods: impl Iterator<Item = &'a Pod>,
        owners: impl IntoIterator<Item = (IpAddr, Option<&'a Pod>)>,
    ) -> Result<Changes, TooLarge> {
        // Until it has been done.
        let stands = std::mem::replace(&mut self.stands, false);
        // A list that falls free in one of the steps is not given again in the next: they are one change.
        self.compiler.lists.go_on();
        let subjects = match changed {
            Changed::Owners if stands => Some(Changes::default()),
            Changed::Attached if stands => match self.follow_attached(&inputs) {
                None => self.follow_subjects(&inputs)?,
                changes => changes,
            },
            Changed::Subjects if stands => self.follow_subjects(&inputs)?,
            _ => None,
        };
        let changes = match subjects {
            Some(changes) => changes.then(self.follow_owners(owners)?).then(self.follow_unknown(&inputs.unknown)),
            None => {
                inputs.pods = pods.collect();
                self.compile(&inputs)?
            }
        };
        self.stands = true;
        Ok(changes)
    }

    /// How many classes have numbers, and how many are used.
    #[cfg(test)]
    pub(super) fn classes(&self) -> (usize, usize) {
        (self.compiler.classes.given(), self.compiled.behind.classes.len())
    }

    /// The same of lists of ports.
    #[cfg(test)]
    pub(super) fn lists(&self) -> (usize, usize) {
        self.compiler.lists.numbered()
    }

    fn compile(&mut self, inputs: &Inputs<'_>) -> Result<Changes, TooLarge> {
        let (compiled, parts) = self.compiler.compile_in_parts(inputs)?;
        let changes = Changes::between(&self.compiled, &compiled);
        self.users.clear();
        let classes = compiled.peers.values().chain(compiled.blocks.iter().map(|segment| &segment.class));
        classes.for_each(|class| *self.users.entry(*class).or_default() += 1);
        (self.compiled, self.parts) = (compiled, parts);
        Ok(changes)
    }

    fn follow_owners<'a>(
        &mut self,
        owners: impl IntoIterator<Item = (IpAddr, Option<&'a Pod>)>,
    ) -> Result<Changes, TooLarge> {
        self.compiler.classes.go_on();
        let (mut changes, mut restricted, mut left_behind) = (Changes::default(), Vec::new(), Vec::new());
        let mut come: BTreeMap<Class, ClassKey> = BTreeMap::new();
        let mut users: BTreeMap<Class, usize> = BTreeMap::new();
        for (address, pod) in owners {
            let key = pod.and_then(|pod| self.parts.key(pod));
            let key = self.parts.at(address, key);
            let before = self.compiled.peers.get(&address).copied();
            let old = before.and_then(|class| self.compiled.behind.classes.get(&class));
            // Whoever is in more selectors is allowed more, but for those that refuse.
            let loses = old.is_some_and(|old| !key.as_ref().is_some_and(|key| key.has(old)));
            let is_met = key.as_ref().is_some_and(|key| self.parts.subjects.refuse_more(old, key));
            if pod.is_some() && (loses || is_met) {
                restricted.push(address);
            }
            if pod.is_none() && before.is_some() {
                left_behind.push(address);
            }
            let after = key.map(|key| {
                let class = Class(self.compiler.classes.number(key.clone()));
                if !self.compiled.behind.classes.contains_key(&class) {
                    come.entry(class).or_insert(key);
                }
                class
            });
            if before == after {
                continue;
            }
            for class in before.into_iter().chain(after) {
                users.entry(class).or_insert_with(|| self.users.get(&class).copied().unwrap_or(0));
            }
            if let Some(class) = before {
                users.entry(class).and_modify(|count| *count -= 1);
                changes.peers.removed.push((address, class));
            }
            if let Some(class) = after {
                users.entry(class).and_modify(|count| *count += 1);
                changes.peers.added.push((address, class));
            }
        }
        let classes = &self.compiled.behind.classes;
        let unused = users.iter().filter(|(_, count)| **count == 0).map(|(class, _)| *class);
        let gone: BTreeMap<_, _> = unused.filter_map(|class| Some((class, classes.get(&class)?.clone()))).collect();
        for direction in Direction::BOTH {
            let (added, removed) = (self.elements_of(direction, &come)?, self.elements_of(direction, &gone)?);
            bounded((self.compiled.matrix(direction).len() + added.len()).saturating_sub(removed.len()))?;
            let allowed = Change { removed: removed.allowed, added: added.allowed };
            let decided = Change { removed: removed.decided, added: added.decided };
            let listings = Change { removed: removed.listings, added: added.listings };
            *changes.matrix_mut(direction) = MatrixChanges { allowed, decided, listings, ..MatrixChanges::default() };
        }
        changes.listed = self.compiler.lists.follow([&changes.ingress.listings, &changes.egress.listings]);
        changes.restricted = Restricted::with(restricted);
        changes.left_behind = Restricted::with(left_behind);
        changes.peers.removed.sort_unstable();
        changes.peers.added.sort_unstable();
        // Nothing can fail any more.
        if !(come.is_empty() && gone.is_empty()) {
            let behind = Arc::make_mut(&mut self.compiled.behind);
            for (class, key) in &gone {
                behind.classes.remove(class);
                self.compiler.classes.let_go(key);
            }
            behind.classes.extend(come);
        }
        for (class, count) in users {
            match count {
                0 => _ = self.users.remove(&class),
                count => _ = self.users.insert(class, count),
            }
        }
        self.apply(&changes);
        Ok(changes)
    }

    /// `None` where a pod comes that is like none before, or the last of its kind goes.
    fn follow_attached(&mut self, inputs: &Inputs<'_>) -> Option<Changes> {
        let subjects = &self.parts.subjects;
        let addresses = subjects.alike.addresses(&local(inputs), &subjects.addresses)?;
        let mut changes = Changes::default();
        for direction in Direction::BOTH {
            *changes.matrix_mut(direction) = self.compiled.matrix(direction).follow(&addresses, direction);
        }
        self.parts.subjects.addresses = addresses;
        self.apply(&changes);
        changes.restricted = changes.subjects_restricted(&self.compiled);
        Some(changes)
    }

    /// `None` where peers have to be known by something else than before.
    fn follow_subjects(&mut self, inputs: &Inputs<'_>) -> Result<Option<Changes>, TooLarge> {
        let compiler = &mut self.compiler;
        // Only a whole round tells which selectors are used no more; these are all that are.
        compiler.subjects.begin();
        let mut subjects = Subjects::new(inputs, &local(inputs), &mut compiler.atoms, &mut compiler.subjects);
        if !subjects.know_peers_as(&self.parts.subjects) {
            return Ok(None);
        }
        let judges = std::mem::take(&mut subjects.judges);
        let old = &self.compiled.behind.judges;
        let is_other = |subject: &Subject| old.get(subject) != judges.get(subject);
        let others: BTreeSet<Subject> = old.keys().chain(judges.keys()).copied().filter(is_other).collect();
        let mut changes = Changes::default();
        for direction in Direction::BOTH {
            let (matrix, addresses) = (self.compiled.matrix(direction), subjects.addresses.of(direction));
            let is_of_others = |subject: Subject| others.contains(&subject);
            let mut elements = Elements::new(&self.parts.ranges, &mut compiler.lists);
            for subject in distinct(addresses).intersection(&others) {
                if let Some(judge) = judges.get(subject) {
                    judge.write(*subject, &self.compiled.behind.classes, &mut elements)?;
                }
            }
            let after = elements.written();
            let before = matrix.allowed.iter().copied().filter(|one| is_of_others(one.subject()));
            let allowed = Change::between(before, after.allowed.into_iter());
            let before = matrix.decided.iter().copied().filter(|one| is_of_others(one.combination.subject()));
            let decided = Change::between(before, after.decided.into_iter());
            let before = matrix.listings.iter().copied().filter(|one| is_of_others(one.subject));
            let listings = Change::between(before, after.listings.into_iter());
            let added = allowed.added.len() + decided.added.len() + listings.added.len();
            let removed = allowed.removed.len() + decided.removed.len() + listings.removed.len();
            bounded((matrix.len() + added).saturating_sub(removed))?;
            let changed = matrix.follow(&subjects.addresses, direction);
            *changes.matrix_mut(direction) = MatrixChanges { allowed, decided, listings, ..changed };
        }
        compiler.subjects.end();
        changes.listed = compiler.lists.follow([&changes.ingress.listings, &changes.egress.listings]);
        if !others.is_empty() {
            Arc::make_mut(&mut self.compiled.behind).judges = judges;
        }
        self.parts.subjects = subjects;
        self.apply(&changes);
        changes.restricted = changes.subjects_restricted(&self.compiled);
        Ok(Some(changes))
    }

    fn follow_unknown(&mut self, unknown: &BTreeSet<IpAddr>) -> Changes {
        let change = Change::between(self.compiled.unknown.iter().copied(), unknown.iter().copied());
        if !change.is_empty() {
            self.compiled.unknown.clone_from(unknown);
        }
        Changes { restricted: Restricted::with(change.added.iter().copied()), unknown: change, ..Changes::default() }
    }

    /// What the judges of a direction say of some classes, in order.
    fn elements_of(&mut self, direction: Direction, classes: &BTreeMap<Class, ClassKey>) -> Result<Written, TooLarge> {
        if classes.is_empty() {
            return Ok(Written::default());
        }
        let mut elements = Elements::new(&self.parts.ranges, &mut self.compiler.lists);
        for subject in distinct(&self.compiled.matrix(direction).subjects) {
            if let Some(judge) = self.compiled.behind.judges.get(&subject) {
                judge.write_classes(subject, classes, &mut elements)?;
            }
        }
        Ok(elements.written())
    }

    fn apply(&mut self, changes: &Changes) {
        for (address, _) in &changes.peers.removed {
            self.compiled.peers.remove(address);
        }
        self.compiled.peers.extend(changes.peers.added.iter().copied());
        change_in_order(&mut self.compiled.listed, &changes.listed);
        for direction in Direction::BOTH {
            let MatrixChanges { subjects, tiered, audited, allowed, decided, listings } = changes.matrix(direction);
            let matrix = match direction {
                Direction::Ingress => &mut self.compiled.ingress,
                Direction::Egress => &mut self.compiled.egress,
            };
            for (address, _) in &subjects.removed {
                matrix.subjects.remove(address);
            }
            matrix.subjects.extend(subjects.added.iter().copied());
            for (addresses, change) in [(&mut matrix.tiered, tiered), (&mut matrix.audited, audited)] {
                addresses.retain(|address| change.removed.binary_search(address).is_err());
                addresses.extend(change.added.iter().copied());
            }
            change_in_order(&mut matrix.allowed, allowed);
            change_in_order(&mut matrix.decided, decided);
            change_in_order(&mut matrix.listings, listings);
        }
    }
}

impl Matrix {
    /// What it differs in from what is said of addresses now.
    fn follow(&self, addresses: &Addresses, direction: Direction) -> MatrixChanges {
        fn pairs(addresses: &BTreeMap<IpAddr, Subject>) -> impl Iterator<Item = (IpAddr, Subject)> {
            addresses.iter().map(|(address, subject)| (*address, *subject))
        }
        MatrixChanges {
            subjects: Change::between(pairs(&self.subjects), pairs(addresses.of(direction))),
            tiered: Change::between(self.tiered.iter().copied(), addresses.tiered(direction)),
            audited: Change::between(self.audited.iter().copied(), addresses.audited(direction)),
            ..MatrixChanges::default()
        }
    }

    /// How many elements it has.
    fn len(&self) -> usize {
        self.allowed.len() + self.decided.len() + self.listings.len()
    }
}

/// Elements of one class are scattered among those of all subjects: what lies between two of them is copied as a whole.
fn change_in_order<T: Ord + Copy>(list: &mut Vec<T>, change: &Change<T>) {
    if change.is_empty() {
        return;
    }
    let (mut removed, mut added) = (change.removed.iter().peekable(), change.added.iter().peekable());
    let mut changed = Vec::with_capacity((list.len() + change.added.len()).saturating_sub(change.removed.len()));
    let mut rest = &list[..];
    loop {
        let (next, comes) = match (removed.peek(), added.peek()) {
            (None, None) => break,
            (Some(gone), None) => (**gone, false),
            (Some(gone), Some(come)) if gone < come => (**gone, false),
            (_, Some(come)) => (**come, true),
        };
        let (before, from) = rest.split_at(rest.partition_point(|one| *one < next));
        changed.extend_from_slice(before);
        rest = from;
        if comes {
            changed.extend(added.next());
        } else {
            removed.next();
            rest = from.strip_prefix(&[next]).unwrap_or(from);
        }
    }
    changed.extend_from_slice(rest);
    *list = changed;
}
