//! Labels of an object: sorted by key, and held once for all objects that have the same.

use std::sync::{Arc, Mutex};

use crate::policy::pool::{Pool, Shared};
use crate::policy::text::Text;

static LABELS: Shared<[(Text, Text)]> = Shared::new(|| Mutex::new(Pool::new()));

/// Labels: keys and values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Text, Text)]>);

impl Labels {
    /// Labels of these; of two with one key the first counts.
    pub fn new(labels: impl IntoIterator<Item = (Text, Text)>) -> Self {
        let mut labels: Vec<_> = labels.into_iter().collect();
        labels.sort_by(|one, other| one.0.cmp(&other.0));
        labels.dedup_by(|later, first| later.0 == first.0);
        Self(Pool::hold(&LABELS, &labels))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Text> {
        let place = self.0.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// Keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = &(Text, Text)> {
        self.0.iter()
    }

    /// Where they are held: two that are equal are at one place.
    pub(super) fn place(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::new([])
    }
}
