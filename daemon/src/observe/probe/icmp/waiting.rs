//! Which requests of a socket wait for an answer, and whether what was heard is one. Pure: time and proofs are handed in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::echo::{Heard, Proof};
use super::packet::Said;

/// A request that has not been answered by then is not any more: longer than anybody here waits.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The requests of a socket that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    requests: HashMap<u16, (Instant, IpAddr, Proof)>,
    /// In the order in which they were sent.
    sent: VecDeque<(Instant, u16)>,
}

impl Waiting {
    /// Enters a request; one of the same number waits no more.
    pub(super) fn enter(&mut self, now: Instant, number: u16, destination: IpAddr, proof: Proof) {
        self.expire(now);
        self.requests.insert(number, (now, destination, proof));
        self.sent.push_back((now, number));
    }

    /// What was heard of a request, where it is one that waits and the proof is its own; it waits no more.
    pub(super) fn heard(&mut self, now: Instant, said: &Said) -> Option<Heard> {
        self.expire(now);
        let Said { destination, number, proof, answered, .. } = *said;
        self.requests.get(&number).filter(|(_, asked, own)| (*asked, *own) == (destination, proof))?;
        self.requests.remove(&number);
        Some(if answered { Heard::Answer { number } } else { Heard::TooLarge { number } })
    }

    fn expire(&mut self, now: Instant) {
        while let Some((sent, number)) = self.sent.front().copied()
            && now.saturating_duration_since(sent) >= ANSWERED_WITHIN
        {
            self.sent.pop_front();
            // A later request of this number goes on.
            if self.requests.get(&number).is_some_and(|(at, ..)| *at == sent) {
                self.requests.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(from: &str, number: u16, proof: u8, answered: bool) -> Said {
        Said { destination: from.parse().unwrap(), identifier: 1, number, proof: [proof; 16], answered }
    }

    #[test]
    fn an_answer_counts_once_from_the_address_that_was_asked_and_with_its_proof() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.enter(now, 7, "10.0.0.2".parse().unwrap(), [1; 16]);
        for forged in [
            said("10.0.0.3", 7, 1, true),
            said("10.0.0.2", 7, 2, true),
            said("10.0.0.2", 8, 1, true),
            said("10.0.0.3", 7, 1, false),
            said("10.0.0.2", 7, 0, false),
        ] {
            assert_eq!(waiting.heard(now, &forged), None, "{forged:?}");
        }
        assert_eq!(waiting.heard(now, &said("10.0.0.2", 7, 1, true)), Some(Heard::Answer { number: 7 }));
        assert_eq!(waiting.heard(now, &said("10.0.0.2", 7, 1, true)), None);
        waiting.enter(now, 8, "fd00::2".parse().unwrap(), [1; 16]);
        assert_eq!(waiting.heard(now, &said("fd00::2", 8, 1, false)), Some(Heard::TooLarge { number: 8 }));
    }

    #[test]
    fn a_late_answer_is_none_and_nothing_is_kept_of_its_request() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        (0..=u16::MAX).for_each(|number| waiting.enter(now, number, "10.0.0.2".parse().unwrap(), [1; 16]));
        let late = now + ANSWERED_WITHIN;
        assert_eq!(waiting.heard(late, &said("10.0.0.2", 7, 1, true)), None);
        assert!(waiting.requests.is_empty() && waiting.sent.is_empty());
    }

    #[test]
    fn a_number_that_is_used_again_answers_for_the_later_request() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.enter(now, 7, "10.0.0.2".parse().unwrap(), [1; 16]);
        waiting.enter(now + Duration::from_secs(4), 7, "10.0.0.3".parse().unwrap(), [2; 16]);
        let then = now + ANSWERED_WITHIN;
        assert_eq!(waiting.heard(then, &said("10.0.0.2", 7, 1, true)), None);
        assert_eq!(waiting.heard(then, &said("10.0.0.3", 7, 2, true)), Some(Heard::Answer { number: 7 }));
    }
}
