//! The transactions of nftables that this process has made. The kernel numbers those of all tables and programs consecutively, so
//! whoever remembers what a table has can go on from it as long as nobody else has made one.
//!
//! What may not live here: what a transaction changes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many numbers are remembered: more than are made between two looks of the slower one.
const REMEMBERED: usize = 4096;

/// The numbers of our transactions, the newest last. All that write rules share one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transactions(Arc<Mutex<VecDeque<u32>>>);

impl Transactions {
    /// Remembers the transaction that was made upon this generation. Its number.
    pub(crate) fn made_upon(&self, generation: u32) -> u32 {
        let number = following(generation);
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() == REMEMBERED {
            numbers.pop_front();
        }
        numbers.push_back(number);
        number
    }

    /// Whether all transactions between two generations are ours.
    pub(crate) fn only_ours(&self, from: u32, to: u32) -> bool {
        let numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = from;
        // Almost always there is none, or the last few are asked for.
        let steps = numbers.len() + 1;
        for _ in 0..steps {
            if last == to {
                return true;
            }
            last = following(last);
            if !numbers.iter().rev().any(|number| *number == last) {
                return false;
            }
        }
        false
    }
}

/// The kernel skips 0.
fn following(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_transaction_among_ours_is_noticed() {
        let transactions = Transactions::default();
        assert!(transactions.only_ours(7, 7));
        assert_eq!(transactions.made_upon(7), 8);
        transactions.made_upon(8);
        transactions.made_upon(10);
        assert!(transactions.only_ours(7, 9));
        assert!(!transactions.only_ours(7, 10));
        assert!(!transactions.only_ours(9, 11), "the tenth was another program's");
        assert!(transactions.only_ours(10, 11));
        assert!(!transactions.only_ours(11, 10), "never backwards");
        assert_eq!(transactions.made_upon(u32::MAX), 1);
        assert!(transactions.only_ours(u32::MAX, 1));
    }

    #[test]
    fn old_numbers_are_given_up() {
        let transactions = Transactions::default();
        for generation in 0..5000 {
            transactions.made_upon(generation);
        }
        assert!(transactions.only_ours(4000, 5000));
        assert!(!transactions.only_ours(0, 5000));
    }
}
