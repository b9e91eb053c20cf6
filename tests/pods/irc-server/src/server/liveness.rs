//! Who is still there: PING from either side, silence and its limits, the limit of the registration.

use super::{ClientId, Server};
use crate::{isupport::SERVER_NAME, line::Line, message::Message, refusal};

impl Server {
    /// `PING token`, answered at any time (RFC 2812 section 3.7.2).
    pub(super) fn ping(&mut self, id: ClientId, message: &Message) {
        match message.parameter(0) {
            Some(token) => self.send(id, Line::new(&format!(":{SERVER_NAME} PONG {SERVER_NAME} :{token}"))),
            None => self.refuse(id, refusal::NO_ORIGIN, &[]),
        }
    }

    /// Notes that the client sent a line: any line is a sign of life.
    pub(super) fn note_activity(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.last_line_at = self.now;
            client.pinged_at = None;
        }
    }

    /// Pings the silent, drops those who stay silent, and drops those who do not register.
    pub(super) fn check_silence(&mut self) {
        let (now, settings) = (self.now, &self.settings);
        let (mut to_ping, mut timed_out, mut unregistered) = (Vec::new(), Vec::new(), Vec::new());
        for (&id, client) in &mut self.clients {
            if !client.is_registered() {
                if now.saturating_sub(client.connected_at) >= settings.registration_timeout {
                    unregistered.push(id);
                }
            } else if let Some(pinged_at) = client.pinged_at {
                if now.saturating_sub(pinged_at) >= settings.ping_timeout {
                    timed_out.push(id);
                }
            } else if now.saturating_sub(client.last_line_at) >= settings.ping_interval {
                client.pinged_at = Some(now);
                to_ping.push(id);
            }
        }
        for id in to_ping {
            self.send(id, Line::new(&format!("PING :{SERVER_NAME}")));
        }
        for id in timed_out {
            self.depart(id, "Ping timeout", "ping timeout");
        }
        for id in unregistered {
            self.depart(id, "Registration timeout", "registration timeout");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn ping_is_answered_with_its_token_before_and_after_registration() {
        let mut world = World::with(&["alice"]);
        world.connects("early");
        for who in ["alice", "early"] {
            world.says(who, "PING :a token");
            assert_eq!(world.heard(who), [":irc.podwire.test PONG irc.podwire.test :a token"]);
        }
        world.says("alice", "PING");
        assert_eq!(world.codes("alice"), ["409"]);
    }

    #[test]
    fn a_silent_client_is_pinged_once_and_then_dropped() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.forget();
        world.after(119);
        assert_eq!(world.heard("alice"), [""; 0]);
        world.after(1);
        world.after(30);
        assert_eq!(world.heard("alice"), ["PING :irc.podwire.test"]);
        world.says("bob", "PONG :irc.podwire.test");
        world.after(30);
        assert!(world.is_closed("alice") && !world.is_closed("bob"));
        assert_eq!(world.heard("alice"), ["ERROR :Closing link: 127.0.0.1 (Ping timeout)"]);
        assert_eq!(world.heard("bob"), ["PING :irc.podwire.test", ":alice!alice@127.0.0.1 QUIT :Ping timeout"]);
    }

    #[test]
    fn any_line_is_a_sign_of_life() {
        let mut world = World::with(&["alice"]);
        for _ in 0..10 {
            world.after(100);
            world.says("alice", "");
        }
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn a_client_that_does_not_register_is_dropped_though_it_talks() {
        let mut world = World::default();
        world.connects("x");
        for _ in 0..29 {
            world.after(1);
            world.says("x", "PING :x");
        }
        assert!(!world.is_closed("x"));
        world.after(1);
        assert!(world.is_closed("x"));
        assert_eq!(world.log, ["a client from 127.0.0.1 left before it registered: registration timeout"]);
    }
}
