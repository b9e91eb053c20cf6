//! Lists of ports, each once: subjects that allow a class the same ports, or decide the same about them, share one. A class that comes is then an
//! element for each subject, and not for each of its ports.
//!
//! What may not live here: whose the lists are (`rules`, `rows`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::policy::change::Change;
use crate::policy::element::{Listed, ListedPort, Listing, PortList};
use crate::policy::numbers::Numbers;

/// What a list has in it, in order and each once.
type Content = Arc<[Listed]>;

/// The lists that have numbers.
#[derive(Debug, Default)]
pub(super) struct PortLists {
    numbers: Numbers<Content>,
    contents: BTreeMap<PortList, Content>,
    /// How many pairs of subject and class have each.
    users: HashMap<PortList, usize>,
    /// Whether every list that is used is asked for in this round; and those that have been.
    is_whole: bool,
    asked: BTreeSet<PortList>,
    /// How many ports and ranges those have in all that have users, and those that are asked for: of a whole round the latter only.
    ports: usize,
}

impl PortLists {
    /// A new round begins, in which every list that is used is asked for.
    pub(super) fn begin(&mut self) {
        self.let_go_unused();
        self.numbers.begin();
        (self.is_whole, self.ports) = (true, 0);
    }

    /// A round begins in which only some lists are asked for, or let go.
    pub(super) fn go_on(&mut self) {
        self.let_go_unused();
        self.numbers.go_on();
        self.is_whole = false;
    }

    /// How many ports and ranges there are in all.
    pub(super) fn ports(&self) -> usize {
        self.ports
    }

    /// The list with just these.
    pub(super) fn list(&mut self, mut listed: Vec<Listed>) -> PortList {
        listed.sort_unstable();
        listed.dedup();
        let content = Content::from(listed);
        let list = PortList(self.numbers.number(content.clone()));
        let is_counted = !self.is_whole && self.users.contains_key(&list);
        if self.asked.insert(list) && !is_counted {
            self.ports += content.len();
        }
        self.contents.entry(list).or_insert(content);
        list
    }

    /// What was asked for in a round that came to nothing is there for nobody.
    fn let_go_unused(&mut self) {
        for list in std::mem::take(&mut self.asked) {
            if !self.users.contains_key(&list)
                && let Some(content) = self.contents.remove(&list)
            {
                self.numbers.let_go(&content);
            }
        }
        self.ports = self.contents.values().map(|content| content.len()).sum();
    }

    /// The round ends, and these have lists: those that nobody has are let go. The others, line by line and in order.
    pub(super) fn end<'a>(&mut self, listings: impl Iterator<Item = &'a Listing>) -> Vec<ListedPort> {
        self.numbers.end();
        self.users.clear();
        for listing in listings {
            *self.users.entry(listing.list).or_default() += 1;
        }
        let users = &self.users;
        self.contents.retain(|list, _| users.contains_key(list));
        self.ports = self.contents.values().map(|content| content.len()).sum();
        self.asked.clear();
        self.contents.iter().flat_map(|(list, content)| lines(*list, content)).collect()
    }

    /// Some pairs of subject and class lose their list, others get one: the lines of lists that nobody has any more, and of those that have
    /// come.
    pub(super) fn follow(&mut self, changes: [&Change<Listing>; 2]) -> Change<ListedPort> {
        let mut counts: BTreeMap<PortList, usize> = BTreeMap::new();
        let mut count = |listing: &Listing, more: bool| {
            let count = counts.entry(listing.list).or_insert_with(|| self.users_of(listing.list));
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        };
        // Who comes before who goes: what stays in use is not let go.
        changes.iter().flat_map(|change| &change.added).for_each(|listing| count(listing, true));
        changes.iter().flat_map(|change| &change.removed).for_each(|listing| count(listing, false));
        let mut lines_of = Change::default();
        for (list, count) in counts {
            let is_new = self.users_of(list) == 0;
            if count > 0 {
                self.users.insert(list, count);
                if is_new {
                    lines_of
                        .added
                        .extend(self.contents.get(&list).into_iter().flat_map(|content| lines(list, content)));
                }
                continue;
            }
            self.users.remove(&list);
            let Some(content) = self.contents.remove(&list) else { continue };
            self.numbers.let_go(&content);
            self.ports -= content.len();
            lines_of.removed.extend(lines(list, &content));
        }
        self.asked.clear();
        lines_of
    }

    /// How many lists have numbers, and how many are used.
    #[cfg(test)]
    pub(super) fn numbered(&self) -> (usize, usize) {
        (self.numbers.given(), self.users.len())
    }

    fn users_of(&self, list: PortList) -> usize {
        self.users.get(&list).copied().unwrap_or(0)
    }
}

fn lines(list: PortList, content: &[Listed]) -> impl Iterator<Item = ListedPort> + '_ {
    content.iter().map(move |listed| ListedPort { list, listed: *listed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::element::{Class, Decision, PortOrRange, Subject};
    use crate::policy::port::Protocol;

    fn port(port: u16) -> Listed {
        (Protocol::Tcp, PortOrRange::Port(port), Decision::Allow)
    }

    #[test]
    fn a_list_is_there_from_its_first_user_to_its_last() {
        let mut lists = PortLists::default();
        lists.begin();
        assert_eq!(lists.end([].iter()), []);
        let mut step = |added: &[(u32, &[u16])], removed: &[(u32, &[u16])]| {
            lists.go_on();
            let mut listings = |of: &[(u32, &[u16])]| -> Vec<Listing> {
                let listing = |(class, ports): &(u32, &[u16])| Listing {
                    subject: Subject(1),
                    class: Class(*class),
                    list: lists.list(ports.iter().copied().map(port).collect()),
                };
                of.iter().map(listing).collect()
            };
            let change = Change { added: listings(added), removed: listings(removed) };
            let change = lists.follow([&change, &Change::default()]);
            let shown =
                |lines: Vec<ListedPort>| lines.iter().map(|line| (line.list.0, line.listed.1)).collect::<Vec<_>>();
            (shown(change.added), shown(change.removed), lists.ports())
        };
        let at = |list: u32, number: u16| (list, PortOrRange::Port(number));
        // The order of ports says nothing, nor does one that is there twice.
        assert_eq!(step(&[(1, &[80, 443])], &[]), (vec![at(1, 80), at(1, 443)], vec![], 2));
        assert_eq!(step(&[(2, &[443, 80, 443]), (3, &[80])], &[]), (vec![at(2, 80)], vec![], 3));
        assert_eq!(step(&[], &[(1, &[80, 443])]), (vec![], vec![], 3));
        // Its number is not given again in the same round.
        assert_eq!(step(&[(2, &[22])], &[(2, &[80, 443])]), (vec![at(3, 22)], vec![at(1, 80), at(1, 443)], 2));
        assert_eq!(step(&[(1, &[23])], &[]), (vec![at(1, 23)], vec![], 3));
        assert_eq!(lists.numbered(), (3, 3));
    }
}
