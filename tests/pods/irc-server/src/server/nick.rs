//! NICK, at registration and later (RFC 2812 section 3.1.2).

use std::collections::BTreeSet;

use super::{ClientId, Server};
use crate::{casemap::Folded, message::Message, name, refusal};

impl Server {
    /// `NICK nick`, at registration and later.
    pub(super) fn nick(&mut self, id: ClientId, message: &Message) {
        let Some(wanted) = message.parameter(0) else {
            return self.refuse(id, refusal::NO_NICK_GIVEN, &[]);
        };
        if !name::is_nick(wanted) {
            return self.refuse(id, refusal::BAD_NICK, &[wanted]);
        }
        let folded = Folded::new(wanted);
        if self.nicks.get(&folded).is_some_and(|&holder| holder != id) {
            return self.refuse(id, refusal::NICK_IN_USE, &[wanted]);
        }
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !client.is_registered() {
            wanted.clone_into(&mut client.nick);
            return self.complete(id);
        }
        if client.nick == wanted {
            return;
        }
        let content = format!(":{} NICK :{wanted}", client.mask());
        let before = Folded::new(&client.nick);
        if before != folded
            && let Some(client) = self.clients.get(&id)
        {
            let until = self.time_of_day();
            self.history.remember(client, until);
        }
        self.nicks.remove(&before);
        self.nicks.insert(folded, id);
        if let Some(client) = self.clients.get_mut(&id) {
            wanted.clone_into(&mut client.nick);
        }
        let mut receivers = self.neighbours(id);
        receivers.insert(id);
        self.send_to_all(receivers, &content);
    }

    /// Everybody who shares a channel with the client, without the client.
    pub(super) fn neighbours(&self, id: ClientId) -> BTreeSet<ClientId> {
        let Some(client) = self.clients.get(&id) else { return BTreeSet::new() };
        let channels = client.channels.iter().filter_map(|key| self.channels.get(key));
        channels.flat_map(|channel| channel.members.keys().copied()).filter(|&member| member != id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn a_malformed_nick_is_432() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "NICK 1alice");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 432 alice 1alice :This nick is not well formed"]);
    }

    #[test]
    fn a_nick_in_use_is_433_in_either_case() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "NICK ALICE");
        assert_eq!(world.heard("bob"), [":irc.podwire.test 433 bob ALICE :This nick is already in use"]);
    }

    #[test]
    fn a_new_nick_is_sent_once_to_oneself_and_everybody_on_a_common_channel() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        for line in ["JOIN #a", "JOIN #b"] {
            world.says("alice", line);
            world.says("bob", line);
        }
        world.forget();
        world.says("alice", "NICK Alicia");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 NICK :Alicia"]);
        assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 NICK :Alicia"]);
        assert_eq!(world.heard("carol"), [""; 0]);
        world.says("bob", "NICK alice");
        assert_eq!(world.heard("bob"), [":bob!bob@127.0.0.1 NICK :alice"]);
    }

    #[test]
    fn the_case_of_ones_own_nick_may_change() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "NICK ALICE");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 NICK :ALICE"]);
        world.says("alice", "NICK ALICE");
        assert_eq!(world.heard("alice"), [""; 0]);
    }
}
