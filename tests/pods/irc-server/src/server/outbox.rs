//! How handlers speak: lines to one client, numerics, lines to a channel, and the look-ups that sending needs.

use super::{Channel, Client, ClientId, Effect, Server};
use crate::{casemap::Folded, isupport::SERVER_NAME, line::Line, message::Message, refusal, refusal::Refusal, text};

/// The longest word of a client that is repeated to it in a refusal, in bytes: the sentence has to fit as well.
const LONGEST_ECHO: usize = 200;

impl Server {
    /// Queues a line for one client.
    pub(super) fn send(&mut self, client: ClientId, line: Line) {
        self.effects.push(Effect::Send { client, line });
    }

    /// Sends an informing numeric; `tail` is everything after the nick.
    pub(super) fn reply(&mut self, id: ClientId, code: &str, tail: &str) {
        if let Some(client) = self.clients.get(&id) {
            let line = Line::new(&format!(":{SERVER_NAME} {code} {} {tail}", client.nick));
            self.send(id, line);
        }
    }

    /// Sends a refusal about `subjects`, which may be words of the client.
    pub(super) fn refuse(&mut self, id: ClientId, refusal: Refusal, subjects: &[&str]) {
        let mut tail: String = subjects.iter().map(|subject| format!("{} ", as_middle(subject))).collect();
        tail.push(':');
        tail.push_str(refusal.sentence);
        self.reply(id, refusal.code, &tail);
    }

    /// Tells the client a sentence from the server.
    pub(super) fn tell(&mut self, id: ClientId, sentence: &str) {
        if let Some(client) = self.clients.get(&id) {
            let line = Line::new(&format!(":{SERVER_NAME} NOTICE {} :{sentence}", client.nick));
            self.send(id, line);
        }
    }

    /// Sends one line to every member of a channel but `except`.
    pub(super) fn send_to_channel(&mut self, key: &Folded, except: Option<ClientId>, content: &str) {
        let Some(channel) = self.channels.get(key) else { return };
        let line = Line::new(content);
        let receivers = channel.members.keys().copied().filter(|&member| Some(member) != except);
        self.effects.extend(receivers.map(|client| Effect::Send { client, line: line.clone() }));
    }

    /// The first parameter, or `461` and `None` when it is missing or empty.
    pub(super) fn first_parameter<'m>(&mut self, id: ClientId, message: &'m Message) -> Option<&'m str> {
        let first = message.parameter(0);
        if first.is_none() {
            self.refuse(id, refusal::NEED_MORE_PARAMETERS, &[&message.command]);
        }
        first
    }

    /// The registered client of a nick.
    pub(super) fn find(&self, nick: &str) -> Option<(ClientId, &Client)> {
        let id = *self.nicks.get(&Folded::new(nick))?;
        Some((id, self.clients.get(&id)?))
    }

    /// The channel of a name.
    pub(super) fn find_channel(&self, name: &str) -> Option<(Folded, &Channel)> {
        let key = Folded::new(name);
        let channel = self.channels.get(&key)?;
        Some((key, channel))
    }

    /// `nick!user@host` of a client.
    pub(super) fn mask_of(&self, id: ClientId) -> String {
        self.clients.get(&id).map(Client::mask).unwrap_or_default()
    }

    /// Whether the parameter names this server or no server is named; `402` otherwise.
    pub(super) fn is_for_this_server(&mut self, id: ClientId, server: Option<&str>) -> bool {
        let Some(name) = server else { return true };
        // A nick stands for the server of its client (RFC 2812 section 3.4), and here there is but one server.
        let here = crate::mask::matches(name, SERVER_NAME) || self.find(name).is_some();
        if !here {
            self.refuse(id, refusal::NO_SUCH_SERVER, &[name]);
        }
        here
    }
}

/// Makes a client's words fit as one middle parameter: the first word, without a leading colon, `*` for nothing.
fn as_middle(words: &str) -> &str {
    let word = words.trim_start_matches([':', ' ']).split(' ').next().unwrap_or_default();
    if word.is_empty() { "*" } else { text::cut(word, LONGEST_ECHO) }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::World, as_middle};

    #[test]
    fn words_of_a_client_become_one_parameter() {
        for (words, middle) in [("", "*"), (": ", "*"), (":x y", "x"), ("bob", "bob")] {
            assert_eq!(as_middle(words), middle, "{words:?}");
        }
    }

    #[test]
    fn a_refusal_of_a_very_long_word_keeps_its_sentence() {
        let mut world = World::with(&["alice"]);
        world.says("alice", &format!("JOIN {}", "x".repeat(480)));
        let heard = world.heard("alice");
        assert!(heard[0].contains(" 403 ") && heard[0].ends_with(":No such channel"), "{heard:?}");
    }

    #[test]
    fn another_server_is_402() {
        let mut world = World::with(&["alice"]);
        for command in ["MOTD", "VERSION", "TIME", "LUSERS *"] {
            world.says("alice", &format!("{command} irc.elsewhere.test"));
            assert_eq!(world.codes("alice"), ["402"], "{command}");
        }
        world.says("alice", "VERSION irc.podwire.test");
        assert_eq!(world.codes("alice")[0], "351");
    }
}
