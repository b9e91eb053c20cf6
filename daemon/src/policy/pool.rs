//! Values that many objects have in common, held once: the labels of a thousand replicas are one allocation.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Values that are held once, for as long as somebody has them.
pub(super) struct Pool<T: ?Sized> {
    held: HashSet<Arc<T>>,
    /// At so many, those are let go that nobody has any more: each value is looked at twice as it comes and goes.
    sweep_at: usize,
}

/// A pool for the whole process.
pub(super) type Shared<T> = LazyLock<Mutex<Pool<T>>>;

/// Below so many values nothing is let go.
const FEW: usize = 1024;

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// Holds nothing.
    pub(super) fn new() -> Self {
        Self { held: HashSet::new(), sweep_at: FEW }
    }

    /// The one that is equal to this.
    pub(super) fn hold(pool: &Mutex<Self>, value: &T) -> Arc<T>
    where
        for<'a> Arc<T>: From<&'a T>,
    {
        // A set is as good after a panic as before.
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = pool.held.get(value) {
            return held.clone();
        }
        if pool.held.len() >= pool.sweep_at {
            // Only who has one can make another of it, and this one has the lock.
            pool.held.retain(|held| Arc::strong_count(held) > 1);
            pool.sweep_at = FEW.max(pool.held.len() * 2);
        }
        let held = Arc::from(value);
        pool.held.insert(Arc::clone(&held));
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_those_that_nobody_has_are_let_go() {
        let pool = Mutex::new(Pool::<str>::new());
        let kept = Pool::hold(&pool, "kept");
        assert!(Arc::ptr_eq(&kept, &Pool::hold(&pool, "kept")));
        for number in 0..10 * FEW {
            Pool::hold(&pool, &number.to_string());
        }
        assert!(pool.lock().unwrap().held.len() <= FEW);
        assert!(Arc::ptr_eq(&kept, &Pool::hold(&pool, "kept")));
    }
}
