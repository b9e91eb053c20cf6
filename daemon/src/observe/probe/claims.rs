//! Peers to which the path has become smaller, as ICMP errors claim that the firewall has dropped: anybody can forge them, so
//! they are no more than a reason to measure.
//!
//! What may not live here: how often a path is measured (`schedule`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use podwire_conf::defaults::TABLE;
use podwire_conf::rules::node::{PATH_MTU, claimed};
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{self, Field};
use podwire_kernel::{Result, Socket};

/// The time between two looks at who it is about, however many errors come.
const AGAIN: Duration = Duration::from_secs(5);

/// What the kernel's clock may differ by from the time between two looks.
const MARGIN: Duration = Duration::from_secs(1);

/// What was dropped, as of the last look.
pub(super) struct Claims {
    socket: Socket,
    counted: Option<u64>,
    /// When the peers were looked at last.
    looked: Option<Instant>,
}

impl Claims {
    pub(super) fn open() -> Result<Self> {
        Ok(Self { socket: Socket::netfilter()?, counted: None, looked: None })
    }

    /// The underlay addresses of peers that errors have been about since the last look. One counter is read, and more only when it
    /// has moved.
    pub(super) fn look(&mut self, now: Instant, own: IpAddr) -> Result<BTreeSet<IpAddr>> {
        let since = self.looked.map(|looked| now.saturating_duration_since(looked));
        if since.is_some_and(|since| since < AGAIN) {
            return Ok(BTreeSet::new());
        }
        let counted = nft::counted(&mut self.socket, TABLE, &[PATH_MTU])?.pop().flatten();
        if counted == self.counted || counted.is_none() {
            return Ok(BTreeSet::new());
        }
        (self.counted, self.looked) = (counted, Some(now));
        let recorded = nft::recorded(&mut self.socket, TABLE, &claimed(IpVersion::of(own)))?.into_iter();
        let new = |age: Duration| since.is_none_or(|since| age <= since + MARGIN);
        Ok(recorded.filter(|record| new(record.age)).filter_map(|record| address(&record.key)).collect())
    }
}

fn address(key: &[Field]) -> Option<IpAddr> {
    if let [Field::Address(address)] = key { Some(*address) } else { None }
}
