//! What changed between two memberships, member by member. The source knows it, so that the reconciler, which has the view of
//! the first one, need not search the second.
//!
//! What may not live here: what a change means for this node (`delta`).

use std::collections::{BTreeMap, HashMap};

use crate::cluster::membership::{Member, Membership};

/// The most members that are named: 32 that left and 32 that came.
const MOST: usize = 64;

/// What changed from one membership to a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// These members, by name, as they are now; `None` for one that left. All others are as they were, and the cluster's ranges
    /// too. Empty where nothing but the order changed.
    Members(BTreeMap<String, Option<Member>>),
    /// Many members, the cluster's ranges, or a member that is listed twice.
    All,
}

impl Default for Update {
    fn default() -> Self {
        Self::Members(BTreeMap::new())
    }
}

impl Update {
    /// One member that came, changed or left.
    pub fn member(name: &str, now: Option<Member>) -> Self {
        Self::Members(BTreeMap::from([(name.into(), now)]))
    }

    /// What leads from one membership to another.
    pub fn between(old: &Membership, new: &Membership) -> Self {
        if old.cluster_cidrs != new.cluster_cidrs {
            return Self::All;
        }
        let (left, came) = differing(&old.nodes, &new.nodes);
        let mut left: HashMap<&str, &Member> = left.iter().map(|member| (member.name.as_str(), member)).collect();
        let mut changed: BTreeMap<&str, Option<&Member>> = BTreeMap::new();
        for member in came {
            if left.remove(member.name.as_str()) != Some(member) {
                changed.insert(&member.name, Some(member));
            }
            if changed.len() > MOST {
                return Self::All;
            }
        }
        // One that is listed twice is among the changed ones, unless it was listed twice before.
        let listed = new.nodes.iter().filter(|member| changed.contains_key(member.name.as_str())).count();
        if listed != changed.len() || changed.len() + left.len() > MOST {
            return Self::All;
        }
        changed.extend(left.into_keys().map(|name| (name, None)));
        Self::Members(changed.into_iter().map(|(name, now)| (name.into(), now.cloned())).collect())
    }

    /// Adds what changed after this.
    pub fn merge(&mut self, later: Self) {
        match (&mut *self, later) {
            (Self::Members(members), Self::Members(later)) => {
                members.extend(later);
                if members.len() > MOST {
                    *self = Self::All;
                }
            }
            (_, Self::All) => *self = Self::All,
            (Self::All, _) => {}
        }
    }
}

/// What is left of two lists without what they begin and end with alike.
fn differing<'old, 'new>(old: &'old [Member], new: &'new [Member]) -> (&'old [Member], &'new [Member]) {
    let begin = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[begin..], &new[begin..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    (&old[..old.len() - end], &new[..new.len() - end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: u8, address: u8) -> Member {
        let pod_cidrs = vec![format!("10.244.{name}.0/24").parse().unwrap()];
        Member {
            name: format!("node-{name}"),
            address: [192, 168, 50, address].into(),
            pod_cidrs,
            addresses: Vec::new(),
        }
    }

    fn membership(members: impl IntoIterator<Item = u8>) -> Membership {
        let cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
        Membership { cluster_cidrs, nodes: members.into_iter().map(|number| member(number, number)).collect() }
    }

    fn members<const N: usize>(members: [(&str, Option<Member>); N]) -> Update {
        Update::Members(members.map(|(name, now)| (name.to_owned(), now)).into())
    }

    #[test]
    fn who_came_left_or_changed_is_named() {
        let update = Update::between(&membership([1, 2, 3, 4]), &membership([5, 1, 2, 4]));
        assert_eq!(update, members([("node-3", None), ("node-5", Some(member(5, 5)))]));
        let mut moved = membership([1, 2, 3]);
        moved.nodes[1].address = [192, 168, 50, 22].into();
        assert_eq!(Update::between(&membership([1, 2, 3]), &moved), members([("node-2", Some(member(2, 22)))]));
        assert_eq!(Update::between(&membership([1, 2, 3]), &membership([3, 1, 2])), Update::default());
    }

    #[test]
    fn a_large_change_other_ranges_and_a_duplicate_member_fall_back_to_a_full_sync() {
        let before = membership([1, 2, 3]);
        let mut ranges = before.clone();
        ranges.cluster_cidrs.clear();
        let doubled = [[1, 2, 2, 3], [2, 1, 2, 3], [1, 2, 3, 1], [1, 3, 2, 3]].map(membership);
        for after in doubled.into_iter().chain([ranges, membership(1..=68)]) {
            assert_eq!(Update::between(&before, &after), Update::All, "{after:?}");
        }
        assert_eq!(Update::between(&membership(1..=68), &before), Update::All);
    }

    #[test]
    fn of_several_updates_the_last_word_on_each_member_counts() {
        let mut update = Update::default();
        update.merge(Update::member("a", Some(member(1, 1))));
        update.merge(Update::member("b", Some(member(2, 2))));
        update.merge(Update::member("a", None));
        assert_eq!(update, members([("a", None), ("b", Some(member(2, 2)))]));
        for number in 0..=62 {
            assert_ne!(update, Update::All);
            update.merge(Update::member(&number.to_string(), None));
        }
        assert_eq!(update, Update::All);
        update.merge(Update::member("c", None));
        assert_eq!(update, Update::All);
    }
}
