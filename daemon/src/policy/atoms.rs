//! The selectors and blocks of rules, each once, and which of the selectors a pod is in.

use std::collections::HashMap;

use crate::policy::ip_block::Span;
use crate::policy::labels::Labels;
use crate::policy::namespace::Namespace;
use crate::policy::selector::Selector;
use crate::policy::text::Text;

/// What rules allow peers by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Atom {
    /// Pods of one namespace, that of the policy.
    Own(Text, Selector),
    /// Pods of the namespaces that the first one selects.
    Selected(Selector, Selector),
    /// Addresses.
    Block(Vec<Span>),
}

/// The selectors of pods, so kept that those which a pod is in are found without a look at all of them.
#[derive(Debug, Default)]
pub(super) struct PodAtoms {
    atoms: Vec<(u32, Atom)>,
    /// Those that want one of some labels, by each of them.
    by_label: HashMap<(Text, Text), Vec<usize>>,
    /// The others of one namespace.
    by_namespace: HashMap<Text, Vec<usize>>,
    /// The others.
    others: Vec<usize>,
    /// The selectors of namespaces, each once, and for each namespace which of them it is in, once somebody has asked.
    selectors: HashMap<Selector, usize>,
    selected: HashMap<Text, Vec<bool>>,
    namespaces: HashMap<Text, Labels>,
}

impl PodAtoms {
    /// The selectors among atoms, by their numbers.
    pub(super) fn new<'a>(
        atoms: impl Iterator<Item = (u32, &'a Atom)>,
        namespaces: impl Iterator<Item = &'a Namespace>,
    ) -> Self {
        let namespaces = namespaces.map(|namespace| (namespace.name.clone(), namespace.labels.clone())).collect();
        let mut made = Self { namespaces, ..Self::default() };
        for (number, atom) in atoms {
            let place = made.atoms.len();
            let pods = match atom {
                Atom::Block(_) => continue,
                Atom::Own(_, pods) => pods,
                Atom::Selected(namespaces, pods) => {
                    let next = made.selectors.len();
                    made.selectors.entry(namespaces.clone()).or_insert(next);
                    pods
                }
            };
            match (pods.one_of(), atom) {
                (Some(labels), _) => {
                    for (key, value) in labels {
                        made.by_label.entry((key.clone(), value.clone())).or_default().push(place);
                    }
                }
                (None, Atom::Own(namespace, _)) => {
                    made.by_namespace.entry(namespace.clone()).or_default().push(place);
                }
                (None, _) => made.others.push(place),
            }
            made.atoms.push((number, atom.clone()));
        }
        made
    }

    /// The numbers of the selectors that a pod of a namespace with these labels is in, in order.
    pub(super) fn of(&mut self, namespace: &Text, labels: &Labels) -> Vec<u32> {
        let selected = self.selected.entry(namespace.clone()).or_insert_with(|| {
            let labels = self.namespaces.get(namespace);
            let mut selected = vec![false; self.selectors.len()];
            for (selector, place) in &self.selectors {
                selected[*place] = labels.is_some_and(|labels| selector.matches(labels));
            }
            selected
        });
        let by_label = labels.iter().filter_map(|label| self.by_label.get(label)).flatten();
        let by_namespace = self.by_namespace.get(namespace).into_iter().flatten();
        let candidates = by_label.chain(by_namespace).chain(&self.others).filter_map(|place| self.atoms.get(*place));
        let matches = |atom: &Atom| match atom {
            Atom::Own(own, pods) => own == namespace && pods.matches(labels),
            Atom::Selected(namespaces, pods) => {
                let place = self.selectors.get(namespaces).copied();
                place.is_some_and(|place| selected[place]) && pods.matches(labels)
            }
            Atom::Block(_) => false,
        };
        let mut numbers: Vec<_> = candidates.filter(|(_, atom)| matches(atom)).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}
