//! The results of a peer's probes, compact, since there may be ten thousand peers. Values only; the probes are sent by
//! `observe`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::settings::Overlay;
use crate::cluster::view::Peer;

/// So many probes in a row without an answer make a peer silent.
pub const SILENT_AFTER: u32 = 3;

/// The peers behind a path that takes less than the underlay's MTU, by name: how much it takes, in bytes.
pub type NarrowPaths = BTreeMap<Arc<str>, u32>;

/// The addresses of a peer that are asked whether it answers: its overlay addresses, by whatever route leads to them; without
/// an overlay nobody has these, and its own is asked.
pub fn asked(own: &Peer, peer: &Peer, overlay: Overlay) -> Vec<IpAddr> {
    match overlay {
        Overlay::Never => vec![peer.address],
        Overlay::Always | Overlay::Auto => {
            own.overlay_addresses(peer).into_iter().map(|(_, address)| address).collect()
        }
    }
}

/// What the probes of a peer have found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    /// What the addresses have answered that are asked: that of IPv4, that of IPv6.
    pub overlay: [Option<Echoes>; 2],
    /// The path to its node's address.
    pub path: Option<Path>,
}

/// The last answers of an address, as few numbers as will do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Echoes {
    /// The last 16 probes, the latest in the lowest bit: 1 is answered.
    window: u16,
    /// How many of them there were, 16 at most.
    known: u8,
    /// The round trip in microseconds, smoothed over eight answers; 0 before the first one.
    round_trip: u32,
}

/// How large a packet may be on the path to a node's address, both in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The largest that came through whole.
    pub largest: u32,
    /// The largest that there was to try: the underlay's MTU.
    pub wanted: u32,
}

impl Path {
    /// How much it takes in bytes, where that is less than there was to try.
    pub fn narrow(self) -> Option<u32> {
        Some(self.largest).filter(|largest| *largest < self.wanted)
    }
}

impl Echoes {
    /// Enters an answer.
    pub fn answered(&mut self, round_trip: Duration) {
        self.enter(1);
        let latest = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX / 8).clamp(1, u32::MAX / 8);
        self.round_trip = match self.round_trip {
            0 => latest,
            before => (before * 7 + latest) / 8,
        };
    }

    /// The round trip in microseconds, smoothed over eight answers.
    pub fn round_trip(&self) -> Option<u32> {
        Some(self.round_trip).filter(|known| *known > 0)
    }

    /// Enters that there was none.
    pub fn unanswered(&mut self) {
        self.enter(0);
    }

    fn enter(&mut self, bit: u16) {
        self.window = self.window << 1 | bit;
        self.known = (self.known + 1).min(16);
    }

    /// Probes in a row, up to now, without an answer.
    pub fn silent_for(&self) -> u32 {
        self.window.trailing_zeros().min(self.known.into())
    }

    /// Whether it answers; `None` when that is not known yet.
    pub fn answers(&self) -> Option<bool> {
        match self.silent_for() {
            _ if self.known == 0 => None,
            0 => Some(true),
            silent if silent >= SILENT_AFTER => Some(false),
            // One lost packet does not make a peer silent that has answered before.
            silent => (silent < self.known.into()).then_some(true),
        }
    }

    /// How many of the last 16 probes were lost, in percent.
    pub fn loss_percent(&self) -> u32 {
        let known = u32::from(self.known);
        (known - self.window.count_ones().min(known)) * 100 / known.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_silent_after_three_lost_probes_and_unknown_before_it_has_ever_answered() {
        let mut echoes = Echoes::default();
        assert_eq!((echoes.answers(), echoes.loss_percent()), (None, 0));
        echoes.unanswered();
        assert_eq!(echoes.answers(), None);
        echoes.answered(Duration::from_micros(800));
        echoes.unanswered();
        echoes.unanswered();
        assert_eq!((echoes.answers(), echoes.loss_percent()), (Some(true), 75));
        echoes.unanswered();
        assert_eq!((echoes.answers(), echoes.loss_percent()), (Some(false), 80));
        for _ in 0..20 {
            echoes.answered(Duration::from_micros(1600));
        }
        assert_eq!((echoes.answers(), echoes.loss_percent()), (Some(true), 0));
        let smoothed = echoes.round_trip().unwrap();
        assert!((1500..1600).contains(&smoothed), "{smoothed}");
        let mut never = Echoes::default();
        (0..3).for_each(|_| never.unanswered());
        assert_eq!(never.answers(), Some(false));
    }
}
