//! Attachments that wait until the policies of their addresses are in force: who waits, and who tells them. Values only.

use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The most attachments that wait at once: a runtime starts a few dozen at a time.
pub const MOST: usize = 256;

/// An attachment that waits.
#[derive(Debug)]
struct Waiting {
    addresses: Vec<IpAddr>,
    in_force: oneshot::Sender<()>,
}

/// Those that wait. Each one that begins to wakes whoever puts policies in force.
#[derive(Debug, Clone)]
pub struct Attaching {
    waiting: Arc<Mutex<Vec<Waiting>>>,
    wake: SyncSender<()>,
}

impl Attaching {
    /// Nobody waits.
    pub fn new(wake: SyncSender<()>) -> Self {
        Self { waiting: Arc::default(), wake }
    }

    /// Waits for these addresses: what is returned resolves once their policies are in force. `None`: too many wait.
    pub fn wait_for(&self, addresses: Vec<IpAddr>) -> Option<oneshot::Receiver<()>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waits| !waits.in_force.is_closed());
        if waiting.len() >= MOST {
            return None;
        }
        let (in_force, told) = oneshot::channel();
        waiting.push(Waiting { addresses, in_force });
        // One wake-up that has not been taken stands for all.
        let _ = self.wake.try_send(());
        Some(told)
    }

    /// Whether an attachment of this address waits.
    pub fn is_awaited(&self, address: &IpAddr) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().any(|waits| !waits.in_force.is_closed() && waits.addresses.contains(address))
    }

    /// Whether all addresses that are waited for are so.
    pub fn are_all(&self, is: impl Fn(&IpAddr) -> bool) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().filter(|waits| !waits.in_force.is_closed()).flat_map(|waits| &waits.addresses).all(is)
    }

    /// Says that one has gone without an answer.
    pub fn gone(&self) {
        let _ = self.wake.try_send(());
    }

    /// Tells those all of whose addresses are settled; the others go on waiting.
    pub fn tell(&self, is_settled: impl Fn(&IpAddr) -> bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = |waits: &Waiting| waits.addresses.iter().all(&is_settled);
        for waits in waiting.extract_if(.., |waits| settled(waits)) {
            // Whoever has waited may have gone.
            let _ = waits.in_force.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn an_attachment_waits_for_all_of_its_addresses_and_those_that_have_gone_take_no_place() {
        let (wake, woken) = sync_channel(1);
        let attaching = Attaching::new(wake);
        let [one, other] = ["10.0.0.1", "fd00::1"].map(|address| address.parse::<IpAddr>().unwrap());
        let mut told = attaching.wait_for(vec![one, other]).unwrap();
        assert!(attaching.is_awaited(&one));
        woken.try_recv().unwrap();
        attaching.tell(|address| *address == one);
        assert!(told.try_recv().is_err());
        attaching.tell(|_| true);
        told.try_recv().unwrap();
        let waiting: Vec<_> = (0..MOST).map(|_| attaching.wait_for(vec![one]).unwrap()).collect();
        assert!(attaching.wait_for(vec![one]).is_none());
        drop(waiting);
        assert!(!attaching.is_awaited(&one));
        assert!(attaching.wait_for(vec![one]).is_some());
    }
}
