//! How the membership travels from its source to the reconciler: the newest one, and what changed in it since the reconciler
//! took it last. Several changes between two syncs are merged, and none is lost.
//!
//! What may not live here: where a membership comes from.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::cluster::membership::Membership;
use crate::cluster::update::Update;

/// What the reconciler has not taken yet. Written and read only under the lock of the membership that it belongs to.
type Pending = Arc<Mutex<Update>>;

/// The end of a source.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    membership: watch::Sender<Membership>,
    pending: Pending,
}

/// The end of the reconciler; there is one.
#[derive(Debug)]
pub(crate) struct Subscriber {
    membership: watch::Receiver<Membership>,
    pending: Pending,
}

/// A channel with a first membership.
pub(crate) fn channel(first: Membership) -> (Publisher, Subscriber) {
    let (sender, receiver) = watch::channel(first);
    let pending = Pending::default();
    (Publisher { membership: sender, pending: pending.clone() }, Subscriber { membership: receiver, pending })
}

impl Publisher {
    /// Changes the membership by a function that returns what has changed. Where it returns `None`, nothing has, and the
    /// subscriber is not woken. Whether it was.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Membership) -> Option<Update>) -> bool {
        self.membership.send_if_modified(|membership| match change(membership) {
            None => false,
            Some(update) => {
                lock(&self.pending).merge(update);
                true
            }
        })
    }
}

impl Subscriber {
    /// Waits for a change that was not taken yet.
    ///
    /// # Errors
    /// When the source has ended.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        self.membership.changed().await.map_err(io::Error::other)
    }

    /// Waits for a membership of which this holds; it can still be taken.
    ///
    /// # Errors
    /// When the source has ended.
    pub(crate) async fn wait_for(&self, holds: impl FnMut(&Membership) -> bool) -> io::Result<()> {
        self.membership.clone().wait_for(holds).await.map(drop).map_err(io::Error::other)
    }

    /// Takes the newest membership, and what changed since it was taken last.
    pub(crate) fn take(&mut self) -> (watch::Ref<'_, Membership>, Update) {
        let membership = self.membership.borrow_and_update();
        let update = std::mem::take(&mut *lock(&self.pending));
        (membership, update)
    }

    /// Lets [`Subscriber::changed`] return once more for a change that was not taken.
    pub(crate) fn mark_changed(&mut self) {
        self.membership.mark_changed();
    }

    /// The membership alone, for a reader that does not need to know what changed.
    pub(crate) fn newest(&self) -> watch::Receiver<Membership> {
        self.membership.clone()
    }
}

/// A merge that panicked has not begun.
fn lock(pending: &Mutex<Update>) -> MutexGuard<'_, Update> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn left(names: &[&str]) -> Update {
        Update::Members(names.iter().map(|name| ((*name).to_owned(), None)).collect::<BTreeMap<_, _>>())
    }

    #[tokio::test]
    async fn changes_that_were_not_taken_are_merged_and_taken_once() {
        let (publisher, mut subscriber) = channel(Membership::default());
        assert!(!publisher.publish(|_| None));
        for name in ["a", "b"] {
            assert!(publisher.publish(|_| Some(left(&[name]))));
        }
        subscriber.changed().await.unwrap();
        // Reading the membership takes nothing away.
        drop(subscriber.newest().borrow_and_update());
        assert_eq!(subscriber.take().1, left(&["a", "b"]));
        assert_eq!(subscriber.take().1, left(&[]));
        publisher.publish(|_| Some(left(&["c"])));
        subscriber.changed().await.unwrap();
        subscriber.mark_changed();
        subscriber.changed().await.unwrap();
        assert_eq!(subscriber.take().1, left(&["c"]));
        drop(publisher);
        assert!(subscriber.changed().await.is_err(), "a source that has ended is noticed");
    }

    #[tokio::test]
    async fn a_membership_that_was_waited_for_is_still_to_be_taken() {
        let (publisher, mut subscriber) = channel(Membership::default());
        publisher.publish(|membership| {
            membership.cluster_cidrs.push("10.244.0.0/16".parse().unwrap());
            Some(Update::All)
        });
        subscriber.wait_for(|membership| !membership.cluster_cidrs.is_empty()).await.unwrap();
        let (membership, update) = subscriber.take();
        assert_eq!((membership.cluster_cidrs.len(), update), (1, Update::All));
    }
}
