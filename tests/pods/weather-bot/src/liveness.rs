//! When the server has been silent for too long. Pure: the time is handed in.

use std::time::{Duration, Instant};

/// What is due at a point in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// The server has been silent for one span: it is to be pinged.
    Ping,
    /// The server has not answered the ping for another span: the connection is dead.
    Dead,
    /// The server has not registered the bot for two spans.
    Unregistered,
}

/// Follows one connection. TCP alone tells nothing about a peer that vanished without a word.
pub(crate) struct Liveness {
    silence: Duration,
    deadline: Instant,
    registered: bool,
    pinged: bool,
}

impl Liveness {
    /// Begins with the connection. `silence` is the span after which the server is pinged, and then given up.
    pub(crate) fn new(silence: Duration, now: Instant) -> Self {
        Self { silence, deadline: now + silence * 2, registered: false, pinged: false }
    }

    /// The server said something. Before the registration that alone is no good sign and moves no limit.
    pub(crate) fn heard(&mut self, now: Instant) {
        if self.registered {
            self.deadline = now + self.silence;
            self.pinged = false;
        }
    }

    /// The server registered the bot.
    pub(crate) fn registered(&mut self, now: Instant) {
        self.registered = true;
        self.heard(now);
    }

    /// When [`Liveness::due`] is to be asked again.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is due now. A ping is due once, until something is heard.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if now < self.deadline {
            Due::Nothing
        } else if !self.registered {
            Due::Unregistered
        } else if self.pinged {
            Due::Dead
        } else {
            // The answer gets its own whole span, even when this is asked late.
            self.pinged = true;
            self.deadline = now + self.silence;
            Due::Ping
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(30);
    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn a_silent_server_is_pinged_once_and_then_dead() {
        let start = Instant::now();
        let mut liveness = Liveness::new(SPAN, start);
        liveness.registered(start);
        assert_eq!(liveness.due(start + SPAN - TICK), Due::Nothing);
        assert_eq!(liveness.due(start + SPAN), Due::Ping);
        assert_eq!(liveness.due(start + SPAN), Due::Nothing);
        assert_eq!(liveness.due(start + 2 * SPAN - TICK), Due::Nothing);
        assert_eq!(liveness.due(start + 2 * SPAN), Due::Dead);
    }

    #[test]
    fn anything_heard_begins_a_new_span() {
        let start = Instant::now();
        let mut liveness = Liveness::new(SPAN, start);
        liveness.registered(start);
        assert_eq!(liveness.due(start + SPAN), Due::Ping);
        liveness.heard(start + SPAN + TICK);
        assert_eq!(liveness.due(start + 2 * SPAN), Due::Nothing);
        assert_eq!(liveness.due(start + 2 * SPAN + TICK), Due::Ping);
    }

    #[test]
    fn a_ping_sent_late_still_gets_a_whole_span() {
        let start = Instant::now();
        let mut liveness = Liveness::new(SPAN, start);
        liveness.registered(start);
        assert_eq!(liveness.due(start + 5 * SPAN), Due::Ping);
        assert_eq!(liveness.due(start + 6 * SPAN - TICK), Due::Nothing);
        assert_eq!(liveness.due(start + 6 * SPAN), Due::Dead);
    }

    #[test]
    fn talk_without_a_registration_does_not_move_its_limit() {
        let start = Instant::now();
        let mut liveness = Liveness::new(SPAN, start);
        liveness.heard(start + SPAN);
        assert_eq!(liveness.due(start + 2 * SPAN - TICK), Due::Nothing);
        assert_eq!(liveness.due(start + 2 * SPAN), Due::Unregistered);
    }
}
