//! Objects by their keys, in parts. A copy shares all parts, and a change copies the one that it is in: ten thousand objects can be
//! kept as they were while one of them changes, and what has changed is found without a look at the others.
//!
//! What may not live here: where the objects come from, and what they mean.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How many parts: of ten thousand objects a change copies some forty.
const PARTS: usize = 256;

/// Some of the objects, by their keys.
type Part<T> = Arc<BTreeMap<Box<str>, T>>;

/// Objects by their keys.
#[derive(Debug, Clone)]
pub(crate) struct Kept<T> {
    parts: Arc<Vec<Part<T>>>,
    count: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { parts: Arc::new((0..PARTS).map(|_| Part::default()).collect()), count: 0 }
    }
}

impl<T: Clone + PartialEq> Kept<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The object with a key.
    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        self.parts.get(place(key))?.get(key)
    }

    /// All objects, in no order that means anything.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.values())
    }

    /// An object that is new or another now. One that is equal to what it was stays.
    pub(crate) fn set(&mut self, key: String, object: T) {
        if self.get(&key) == Some(&object) {
            return;
        }
        let before = self.part(&key).and_then(|part| part.insert(key.into(), object));
        self.count += usize::from(before.is_none());
    }

    /// An object that is gone.
    pub(crate) fn remove(&mut self, key: &str) {
        if self.get(key).is_some() {
            let before = self.part(key).and_then(|part| part.remove(key));
            self.count -= usize::from(before.is_some());
        }
    }

    /// These objects and no others. One that is equal to what it was stays.
    pub(crate) fn replace(&mut self, objects: impl Iterator<Item = (String, T)>) {
        let mut parts = vec![BTreeMap::new(); PARTS];
        for (key, object) in objects {
            let before = self.get(&key).filter(|before| **before == object).cloned();
            if let Some(part) = parts.get_mut(place(&key)) {
                part.insert(key.into(), before.unwrap_or(object));
            }
        }
        self.count = parts.iter().map(BTreeMap::len).sum();
        let same =
            |(before, after): (&Part<T>, BTreeMap<_, _>)| if **before == after { before.clone() } else { after.into() };
        self.parts = Arc::new(self.parts.iter().zip(parts).map(same).collect());
    }

    /// What differs from what was kept before: each object as it was and as it is.
    pub(crate) fn changed_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a T>, Option<&'a T>)> {
        let parts = before.parts.iter().zip(self.parts.iter()).filter(|(before, after)| !Arc::ptr_eq(before, after));
        parts.flat_map(|(before, after)| {
            let gone =
                before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(_, object)| (Some(object), None));
            let others = after.iter().map(|(key, object)| (before.get(key), Some(object)));
            gone.chain(others.filter(|(before, after)| before != after))
        })
    }

    fn part(&mut self, key: &str) -> Option<&mut BTreeMap<Box<str>, T>> {
        Arc::make_mut(&mut self.parts).get_mut(place(key)).map(Arc::make_mut)
    }
}

/// The part that a key is in.
fn place(key: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::from(hasher.finish().to_le_bytes()[0]) % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(objects: &[(&str, u32)]) -> Kept<Arc<u32>> {
        let mut kept = Kept::default();
        kept.replace(objects.iter().map(|(key, object)| ((*key).to_owned(), Arc::new(*object))));
        kept
    }

    #[test]
    fn what_has_changed_is_found_and_the_rest_is_shared() {
        let many: Vec<_> = (0..2_000).map(|number| format!("namespace/{number}")).collect();
        let mut kept = of(&many.iter().zip(0..).map(|(key, number)| (key.as_str(), number)).collect::<Vec<_>>());
        let before = kept.clone();
        kept.set("namespace/7".into(), Arc::new(70));
        kept.set("namespace/8".into(), Arc::new(8));
        kept.set("new".into(), Arc::new(1));
        kept.remove("namespace/9");
        kept.remove("never");
        let mut changed: Vec<_> =
            kept.changed_since(&before).map(|(one, two)| (one.map(|one| **one), two.map(|two| **two))).collect();
        changed.sort_unstable();
        assert_eq!(changed, [(None, Some(1)), (Some(7), Some(70)), (Some(9), None)]);
        assert_eq!((kept.len(), before.len(), kept.values().count()), (2_000, 2_000, 2_000));
        assert_eq!((before.get("namespace/7"), kept.get("namespace/9")), (Some(&Arc::new(7)), None));
        let copied = kept.parts.iter().zip(before.parts.iter()).filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
        assert!(copied <= 3, "{copied} parts were copied for three changes");
    }

    #[test]
    fn a_list_of_what_is_known_changes_nothing() {
        let mut kept = of(&[("a", 1), ("b", 2)]);
        let before = kept.clone();
        kept.replace([("b".to_owned(), Arc::new(2)), ("a".to_owned(), Arc::new(1))].into_iter());
        assert!(kept.changed_since(&before).next().is_none());
        assert!(Arc::ptr_eq(kept.get("a").unwrap(), before.get("a").unwrap()));
        kept.replace([("a".to_owned(), Arc::new(1))].into_iter());
        assert_eq!((kept.changed_since(&before).count(), kept.len()), (1, 1));
    }
}
