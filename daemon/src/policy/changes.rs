//! What two compiled forms differ in, set by set: what a transaction has to remove and to add.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::policy::compiled::{Compiled, Matrix};
use crate::policy::element::{Allowed, BlockSegment, Class, PortSegment, Subject};

/// What one set has to lose and to gain. A key that gets another value is in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<T> {
    /// To be removed.
    pub removed: Vec<T>,
    /// To be added.
    pub added: Vec<T>,
}

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
}

/// What one direction differs in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatrixChanges {
    /// The subjects of isolated addresses.
    pub subjects: Change<(IpAddr, Subject)>,
    /// What is allowed.
    pub allowed: Change<Allowed>,
}

impl<T> Default for Change<T> {
    fn default() -> Self {
        Self { removed: Vec::new(), added: Vec::new() }
    }
}

impl<T: Ord> Change<T> {
    /// Of two lists in order.
    fn between(old: impl Iterator<Item = T>, new: impl Iterator<Item = T>) -> Self {
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

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl Changes {
    /// What leads from one to the other.
    pub fn between(old: &Compiled, new: &Compiled) -> Self {
        let pairs = |compiled: &Compiled| compiled.peers.clone().into_iter();
        Self {
            ingress: MatrixChanges::between(&old.ingress, &new.ingress),
            egress: MatrixChanges::between(&old.egress, &new.egress),
            peers: Change::between(pairs(old), pairs(new)),
            blocks: Change::between(old.blocks.iter().copied(), new.blocks.iter().copied()),
            ports: Change::between(old.ports.iter().copied(), new.ports.iter().copied()),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl MatrixChanges {
    fn between(old: &Matrix, new: &Matrix) -> Self {
        let pairs = |matrix: &Matrix| matrix.subjects.clone().into_iter();
        Self {
            subjects: Change::between(pairs(old), pairs(new)),
            allowed: Change::between(old.allowed.iter().copied(), new.allowed.iter().copied()),
        }
    }
}
