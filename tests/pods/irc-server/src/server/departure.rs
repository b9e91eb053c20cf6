//! How a client leaves: QUIT, a lost connection, a time-out, the end of the process (RFC 2812 section 3.1.7).

use super::{Client, ClientId, Effect, Server};
use crate::{line::Line, message::Message, text};

/// The longest QUIT message that is passed on, in bytes.
const LONGEST_FAREWELL: usize = 250;

impl Server {
    /// `QUIT [message]`.
    pub(super) fn quit(&mut self, id: ClientId, message: &Message) {
        let reason = match message.parameter(0) {
            // The prefix keeps a client from making its own farewell look like one of the server's reasons.
            Some(farewell) => format!("Quit: {}", text::cut(farewell, LONGEST_FAREWELL)),
            None => "Client quit".to_owned(),
        };
        self.depart(id, &reason, "quit");
    }

    /// Removes a client. Its neighbours are told `reason`; the log gets `cause`, which holds no words of a client.
    pub(super) fn depart(&mut self, id: ClientId, reason: &str, cause: &str) {
        let neighbours = self.neighbours(id);
        let Some(client) = self.clients.remove(&id) else { return };
        if client.is_registered() {
            self.unlink(id, &client);
            self.history.remember(&client, self.time_of_day());
            self.send_to_all(neighbours, &format!(":{} QUIT :{reason}", client.mask()));
            self.drop_questions_of(id);
            self.effects.push(Effect::Log(format!("{} left: {cause}", client.mask())));
        } else {
            let sentence = format!("a client from {} left before it registered: {cause}", client.host);
            self.effects.push(Effect::Log(sentence));
        }
        self.send(id, Line::new(&format!("ERROR :Closing link: {} ({reason})", client.host)));
        self.effects.push(Effect::Close { client: id });
    }

    fn unlink(&mut self, id: ClientId, client: &Client) {
        self.nicks.remove(&crate::casemap::Folded::new(&client.nick));
        for key in &client.channels {
            self.remove_member(key, id);
        }
    }

    /// Says goodbye to every client at the end of the process.
    pub(super) fn dismiss_all(&mut self) {
        for (id, client) in std::mem::take(&mut self.clients) {
            self.send(id, Line::new(&format!("ERROR :Closing link: {} (The server ends)", client.host)));
            self.effects.push(Effect::Close { client: id });
        }
        self.nicks.clear();
        self.channels.clear();
        self.questions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, fixture::World};

    #[test]
    fn a_quit_is_sent_once_to_everybody_on_a_common_channel() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        for line in ["JOIN #a", "JOIN #b"] {
            world.says("alice", line);
            world.says("bob", line);
        }
        world.forget();
        world.says("alice", "QUIT :gone for tea");
        assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 QUIT :Quit: gone for tea"]);
        assert_eq!(world.heard("carol"), [""; 0]);
        assert_eq!(world.heard("alice"), ["ERROR :Closing link: 127.0.0.1 (Quit: gone for tea)"]);
        assert!(world.is_closed("alice"));
    }

    #[test]
    fn the_log_has_no_words_of_the_quit_message() {
        let mut world = World::with(&["alice"]);
        world.log.clear();
        world.says("alice", "QUIT :secret words");
        assert_eq!(world.log, ["alice!alice@127.0.0.1 left: quit"]);
    }

    #[test]
    fn a_lost_connection_frees_nick_and_channels() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        let client = world.id("alice");
        world.happens(Event::Gone { client, reason: "Connection closed" });
        world.says("bob", "MODE #a");
        assert_eq!(world.codes("bob"), ["403"]);
        world.says("bob", "NICK alice");
        assert_eq!(world.codes("bob"), ["NICK"]);
    }

    #[test]
    fn quit_works_before_registration() {
        let mut world = World::default();
        world.connects("x");
        world.says("x", "QUIT");
        assert_eq!(world.heard("x"), ["ERROR :Closing link: 127.0.0.1 (Client quit)"]);
        assert!(world.is_closed("x"));
    }

    #[test]
    fn at_the_end_of_the_process_every_client_gets_an_error() {
        let mut world = World::with(&["alice", "bob"]);
        world.happens(Event::Shutdown);
        for nick in ["alice", "bob"] {
            assert_eq!(world.heard(nick), ["ERROR :Closing link: 127.0.0.1 (The server ends)"]);
            assert!(world.is_closed(nick));
        }
    }
}
