//! The contestants side by side: taking turns pod by pod, or each with many at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestant::Verb;
use crate::lane::{Lane, Pod};
use crate::quiet::Quiet;

/// How many calls are under way when there are many at once.
pub(crate) const AT_ONCE: usize = 16;

/// Times of one lane.
pub(crate) type Times = Vec<Duration>;

/// Every lane attaches its pods of these numbers, then detaches them; lanes take turns pod by pod. The times of each
/// lane: ADD and DEL.
///
/// # Errors
/// What a plugin has said.
pub(crate) fn in_turn(
    lanes: &[&Lane],
    numbers: std::ops::Range<usize>,
    quiet: &Quiet,
) -> Result<Vec<(Times, Times)>, String> {
    let mut times = vec![(Vec::new(), Vec::new()); lanes.len()];
    for verb in [Verb::Add, Verb::Del] {
        quiet.wait()?;
        for number in numbers.clone() {
            for place in turn(number, lanes.len()) {
                let lane = lanes[place];
                let took = lane.visit(&lane.pods[number], verb)?;
                match verb {
                    Verb::Add => times[place].0.push(took),
                    Verb::Del => {
                        times[place].1.push(took);
                        quiet.wait()?;
                    }
                }
            }
        }
    }
    Ok(times)
}

/// Who is called when: everybody is first equally often, and after either neighbour, so that what a call leaves to the
/// next one hits all alike.
pub(crate) fn turn(round: usize, count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).map(|place| (place + round) % count.max(1)).collect();
    if (round / count.max(1)) % 2 == 1 {
        places.reverse();
    }
    places
}

/// Does `verb` with all these pods of a lane, [`AT_ONCE`] at a time: the times, and how long it took together.
///
/// # Errors
/// What a plugin has said.
pub(crate) fn at_once(lane: &Lane, pods: &[Pod], verb: Verb) -> Result<(Times, Duration), String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut times = Vec::new();
        while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
            times.push(lane.call(pod, verb)?);
        }
        Ok::<_, String>(times)
    };
    lane.host.enter(|| {
        let start = Instant::now();
        let answers: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        let took = start.elapsed();
        let mut times = Vec::new();
        for answer in answers {
            times.extend(answer.map_err(|_| "a thread panicked".to_owned())??);
        }
        Ok((times, took))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_follows_every_other_equally_often() {
        let rounds: Vec<_> = (0..8).map(|round| turn(round, 4)).collect();
        let first = |who: usize| rounds.iter().filter(|order| order[0] == who).count();
        assert!((0..4).all(|who| first(who) == 2), "{rounds:?}");
        let after = |who: usize, whom: usize| {
            rounds.iter().flat_map(|order| order.windows(2)).filter(|pair| **pair == [whom, who]).count()
        };
        assert_eq!((after(1, 0), after(0, 1)), (3, 3), "{rounds:?}");
    }
}
