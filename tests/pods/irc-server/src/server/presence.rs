//! Who is there and who is away: AWAY, USERHOST, ISON (RFC 2812 section 4; IRCv3 `away-notify`).

use super::{ClientId, Server};
use crate::{capability::Capability, isupport::AWAY_LENGTH, message::Message, reply, text};

/// Room for the words of a `302` or `303`, in bytes: 510 without the server and the longest nick.
const ROOM: usize = 440;

impl Server {
    /// `AWAY [message]`; without one the client is back.
    pub(super) fn away(&mut self, id: ClientId, message: &Message) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let away = message.parameter(0).map(|away| text::cut(away, AWAY_LENGTH).to_owned());
        let before = std::mem::replace(&mut client.away, away.clone());
        if before != away {
            let tail = away.as_ref().map(|away| format!(" :{away}")).unwrap_or_default();
            let content = format!(":{} AWAY{tail}", client.mask());
            let mut told = self.neighbours(id);
            told.retain(|&neighbour| self.wants(neighbour, Capability::AwayNotify));
            self.send_to_all(told, &content);
        }
        if away.is_some() {
            self.reply(id, reply::NOWAWAY, ":You have been marked as being away");
        } else {
            self.reply(id, reply::UNAWAY, ":You are no longer marked as being away");
        }
    }

    /// `USERHOST nick …`, at most five.
    pub(super) fn userhost(&mut self, id: ClientId, message: &Message) {
        if self.first_parameter(id, message).is_none() {
            return;
        }
        let words: Vec<String> = message
            .parameters
            .iter()
            .take(5)
            .filter_map(|nick| self.find(nick))
            .map(|(_, client)| {
                let presence = if client.away.is_some() { '-' } else { '+' };
                let star = if client.operator { "*" } else { "" };
                format!("{}{star}={presence}{}@{}", client.nick, client.user, client.host)
            })
            .collect();
        self.reply_words(id, reply::USERHOST, &words);
    }

    /// `ISON nick …`.
    pub(super) fn ison(&mut self, id: ClientId, message: &Message) {
        if self.first_parameter(id, message).is_none() {
            return;
        }
        let asked = message.parameters.iter().flat_map(|words| words.split(' '));
        let words: Vec<String> =
            asked.filter_map(|nick| self.find(nick)).map(|(_, client)| client.nick.clone()).collect();
        self.reply_words(id, reply::ISON, &words);
    }

    fn reply_words(&mut self, id: ClientId, code: &str, words: &[String]) {
        if words.is_empty() {
            self.reply(id, code, ":");
        }
        for words in text::fill(words, ROOM) {
            self.reply(id, code, &format!(":{words}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, World};

    #[test]
    fn a_message_to_somebody_away_arrives_and_is_answered_with_the_away_message() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "AWAY :at tea");
        assert_eq!(world.heard("bob"), [":irc.podwire.test 306 bob :You have been marked as being away"]);
        world.says("alice", "PRIVMSG bob :hi");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 301 alice bob :at tea"]);
        assert_eq!(world.codes("bob"), ["PRIVMSG"]);
        world.says("bob", "AWAY");
        assert_eq!(world.codes("bob"), ["305"]);
        world.says("alice", "PRIVMSG bob :hi");
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn with_away_notify_neighbours_are_told_of_each_change_once() {
        let mut world = World::with(&["alice", "bob", "carol", "dave"]);
        for nick in ["alice", "bob", "carol"] {
            world.says(nick, "JOIN #a");
            world.says(nick, "JOIN #b");
        }
        for nick in ["alice", "bob", "dave"] {
            world.says(nick, "CAP REQ :away-notify");
        }
        world.forget();
        for line in ["AWAY", "AWAY :at tea", "AWAY :at tea", "AWAY"] {
            world.says("bob", line);
        }
        assert_eq!(world.heard("alice"), [":bob!bob@127.0.0.1 AWAY :at tea", ":bob!bob@127.0.0.1 AWAY"]);
        assert_eq!(world.codes("bob"), ["305", "306", "306", "305"]);
        assert_eq!(world.heard("carol"), [""; 0]);
        assert_eq!(world.heard("dave"), [""; 0]);
    }

    #[test]
    fn userhost_marks_server_operators() {
        let mut world = World::with_operator(&["alice"]);
        world.says("alice", &format!("OPER {OPERATOR}"));
        world.forget();
        world.says("alice", "USERHOST alice");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 302 alice :alice*=+alice@127.0.0.1"]);
    }

    #[test]
    fn userhost_tells_presence_of_at_most_five() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "AWAY :x");
        world.says("alice", "USERHOST alice BOB nobody");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 302 alice :alice=+alice@127.0.0.1 bob=-bob@127.0.0.1"]);
        world.says("alice", "USERHOST 1 2 3 4 5 alice");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 302 alice :"]);
        world.says("alice", "USERHOST");
        assert_eq!(world.codes("alice"), ["461"]);
    }

    #[test]
    fn ison_repeats_those_who_are_there() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "ISON BOB nobody :x alice");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 303 alice :bob alice"]);
        world.says("alice", "ISON");
        assert_eq!(world.codes("alice"), ["461"]);
    }
}
