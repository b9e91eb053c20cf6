//! Small numbers for keys, which stay as long as their key is used.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Numbers from 1 on. A number that falls free in one round is given again in the next at the earliest: who looks at old and
/// new elements while they are replaced never takes one key for another.
#[derive(Debug)]
pub(super) struct Numbers<K> {
    /// With the round in which each was used last.
    given: HashMap<K, (u32, u64)>,
    free: BTreeSet<u32>,
    /// Fell free in the last round.
    freed: Vec<u32>,
    most: u32,
    round: u64,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self { given: HashMap::new(), free: BTreeSet::new(), freed: Vec::new(), most: 0, round: 0 }
    }
}

impl<K: Eq + Hash> Numbers<K> {
    /// A new round begins, in which every key that is used is asked for.
    pub(super) fn begin(&mut self) {
        self.round += 1;
        self.go_on();
    }

    /// A round begins in which only some keys are asked for, or let go.
    pub(super) fn go_on(&mut self) {
        self.free.extend(self.freed.drain(..));
    }

    /// A key is used no more.
    pub(super) fn let_go(&mut self, key: &K) {
        self.freed.extend(self.given.remove(key).map(|(number, _)| number));
    }

    /// How many keys have numbers.
    #[cfg(test)]
    pub(super) fn given(&self) -> usize {
        self.given.len()
    }

    /// The number of a key.
    pub(super) fn number(&mut self, key: K) -> u32 {
        let round = self.round;
        let (free, most) = (&mut self.free, &mut self.most);
        let (number, used) = self.given.entry(key).or_insert_with(|| {
            let number = free.pop_first().unwrap_or_else(|| {
                *most += 1;
                *most
            });
            (number, round)
        });
        *used = round;
        *number
    }

    /// The round ends: numbers that were not used in it fall free.
    pub(super) fn end(&mut self) {
        let (round, freed) = (self.round, &mut self.freed);
        self.given.retain(|_, (number, used)| {
            let stays = *used == round;
            if !stays {
                freed.push(*number);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_and_is_given_again_after_a_round_only() {
        let mut numbers = Numbers::default();
        let mut round = |keys: &[&'static str]| {
            numbers.begin();
            let given: Vec<_> = keys.iter().map(|key| numbers.number(*key)).collect();
            numbers.end();
            given
        };
        assert_eq!(round(&["a", "b", "c"]), [1, 2, 3]);
        assert_eq!(round(&["d", "c", "a"]), [4, 3, 1]);
        assert_eq!(round(&["e", "a", "f"]), [2, 1, 5]);
    }

    #[test]
    fn a_key_that_is_let_go_alone_has_its_number_given_again_after_a_round_only() {
        let mut numbers = Numbers::default();
        numbers.begin();
        assert_eq!(["a", "b"].map(|key| numbers.number(key)), [1, 2]);
        numbers.end();
        numbers.go_on();
        numbers.let_go(&"a");
        assert_eq!(["b", "c"].map(|key| numbers.number(key)), [2, 3]);
        numbers.go_on();
        assert_eq!(["a", "b", "c", "d"].map(|key| numbers.number(key)), [1, 2, 3, 4]);
    }
}
