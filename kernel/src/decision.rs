//! What a chain does with packets that none of its conditions decides about. Pure: of nftables and of the legacy iptables
//! alike.
//!
//! What may not live here: reading rules, and what is to pass.

/// The most rules that are followed. No ruleset that people write comes near it; chains that jump to one another often
/// enough would.
const MOST: usize = 1 << 16;
/// The deepest chain that is followed. The kernel has no loops, but a table may be replaced while it is read.
const DEEPEST: usize = 64;

/// What a rule does with such packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step<C> {
    /// Nothing: it has a condition, or does not decide.
    Other,
    /// It accepts them, or hands them to somebody else.
    Accept,
    /// It drops or refuses them.
    Drop,
    /// It ends the chain.
    Return,
    /// It goes through another chain, and on with the next rule.
    Jump(C),
    /// It goes through another chain, and the chain is ended.
    Goto(C),
}

/// Whether a chain drops (`true`) or accepts them; `None` where it leaves them to whoever has jumped to it, or where that
/// cannot be told.
pub(crate) fn drops<C>(chain: &C, steps: &impl Fn(&C) -> Vec<Step<C>>) -> Option<bool> {
    follow(chain, steps, 0, &mut 0)
}

fn follow<C>(chain: &C, steps: &impl Fn(&C) -> Vec<Step<C>>, depth: usize, followed: &mut usize) -> Option<bool> {
    if depth > DEEPEST {
        return None;
    }
    for step in steps(chain) {
        *followed += 1;
        if *followed > MOST {
            return None;
        }
        match step {
            Step::Other => {}
            Step::Accept => return Some(false),
            Step::Drop => return Some(true),
            Step::Return => return None,
            Step::Jump(to) => match follow(&to, steps, depth + 1, followed) {
                None => {}
                decided => return decided,
            },
            Step::Goto(to) => return follow(&to, steps, depth + 1, followed),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(chains: &[&[Step<usize>]]) -> Option<bool> {
        drops(&0, &|chain: &usize| chains[*chain].to_vec())
    }

    #[test]
    fn the_first_rule_without_a_condition_decides() {
        use Step::{Accept, Drop, Goto, Jump, Other, Return};
        assert_eq!(of(&[&[Other, Other, Drop]]), Some(true));
        assert_eq!(of(&[&[Other, Accept, Drop]]), Some(false));
        assert_eq!(of(&[&[Other]]), None);
        assert_eq!(of(&[&[Jump(1), Accept], &[Other, Drop]]), Some(true));
        assert_eq!(of(&[&[Jump(1), Drop], &[Return, Accept]]), Some(true));
        assert_eq!(of(&[&[Goto(1), Drop], &[Other]]), None);
    }

    #[test]
    fn chains_that_double_are_followed_so_far() {
        let twice = |next: usize| vec![Step::Jump(next), Step::Jump(next)];
        let chains: Vec<_> = (1..40).map(twice).chain([vec![Step::Other]]).collect();
        assert_eq!(drops(&0, &|chain: &usize| chains[*chain].clone()), None);
        assert_eq!(of(&[&[Step::Goto(0)]]), None);
    }
}
