//! How handlers speak: lines to one client, numerics, lines to a channel, and the look-ups that sending needs.

use super::{Channel, Client, ClientId, Effect, Server};
use crate::{
    capability::Capability, casemap::Folded, isupport::SERVER_NAME, line::Line, message::Message, refusal,
    refusal::Refusal, text, timestamp,
};

/// The longest word of a client that is repeated to it in a refusal, in bytes: the sentence has to fit as well.
const LONGEST_ECHO: usize = 200;

impl Server {
    /// Queues a line for one client.
    pub(super) fn send(&mut self, client: ClientId, line: Line) {
        let line = if self.wants(client, Capability::ServerTime) { line.at(&self.timestamp()) } else { line };
        self.effects.push(Effect::Send { client, line });
    }

    /// Queues one line for many clients. Whoever gets the same line shares its bytes.
    pub(super) fn send_to_all(&mut self, receivers: impl IntoIterator<Item = ClientId>, content: &str) {
        let plain = Line::new(content);
        let mut timed = None;
        for client in receivers {
            let line = if self.wants(client, Capability::ServerTime) {
                timed.get_or_insert_with(|| plain.at(&self.timestamp())).clone()
            } else {
                plain.clone()
            };
            self.effects.push(Effect::Send { client, line });
        }
    }

    /// Whether the client has switched on a capability.
    pub(super) fn wants(&self, id: ClientId, capability: Capability) -> bool {
        self.clients.get(&id).is_some_and(|client| client.capabilities.has(capability))
    }

    /// The present time as the tag `time` has it.
    fn timestamp(&self) -> String {
        timestamp::utc(self.time_of_day())
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

    /// Warns a client that bytes of its line were replaced (IRCv3 `UTF8ONLY` and standard replies). A notice is never
    /// answered (RFC 2812 section 3.3.2).
    pub(super) fn warn_of_bytes(&mut self, id: ClientId, message: &Message) {
        if message.command != "NOTICE" {
            let command = as_middle(&message.command);
            let sentence = "Bytes that are not UTF-8 were replaced";
            self.send(id, Line::new(&format!(":{SERVER_NAME} WARN {command} INVALID_UTF8 :{sentence}")));
        }
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
        let receivers = self.members_but(key, except);
        self.send_to_all(receivers, content);
    }

    /// The members of a channel but `except`.
    pub(super) fn members_but(&self, key: &Folded, except: Option<ClientId>) -> Vec<ClientId> {
        let Some(channel) = self.channels.get(key) else { return Vec::new() };
        channel.members.keys().copied().filter(|&member| Some(member) != except).collect()
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
        for command in ["MOTD", "VERSION", "TIME", "ADMIN", "INFO", "LUSERS *"] {
            world.says("alice", &format!("{command} irc.elsewhere.test"));
            assert_eq!(world.codes("alice"), ["402"], "{command}");
        }
        world.says("alice", "VERSION irc.podwire.test");
        assert_eq!(world.codes("alice")[0], "351");
    }
}
