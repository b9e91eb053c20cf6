//! TOPIC (RFC 2812 section 3.2.4).

use super::{ClientId, Server, channel::Topic};
use crate::{casemap::Folded, isupport::TOPIC_LENGTH, message::Message, refusal, reply, text};

impl Server {
    /// `TOPIC channel [text]`: without text a question, with an empty one the end of the topic. A secret channel has no
    /// topic for those who are not on it.
    pub(super) fn topic(&mut self, id: ClientId, message: &Message) {
        let Some(channel_name) = self.first_parameter(id, message) else { return };
        let found = self.find_channel(channel_name).filter(|(_, channel)| !channel.is_hidden_from(id));
        let Some((key, channel)) = found else {
            return self.refuse(id, refusal::NO_SUCH_CHANNEL, &[channel_name]);
        };
        let Some(wanted) = message.parameters.get(1) else { return self.send_topic(id, &key) };
        if !channel.members.contains_key(&id) {
            return self.refuse(id, refusal::NOT_ON_CHANNEL, &[channel_name]);
        }
        if channel.has('t') && !channel.is_operator(id) {
            return self.refuse(id, refusal::NOT_OPERATOR, &[channel_name]);
        }
        let (setter, set_at) = (self.mask_of(id), self.unix_time());
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let wanted = text::cut(wanted, TOPIC_LENGTH);
        let content = format!(":{setter} TOPIC {} :{wanted}", channel.name);
        channel.topic = (!wanted.is_empty()).then(|| Topic { text: wanted.to_owned(), setter, set_at });
        self.send_to_channel(&key, None, &content);
    }

    /// Tells the client the topic of a channel (`332` and `333`), or that there is none (`331`).
    pub(super) fn send_topic(&mut self, id: ClientId, key: &Folded) {
        let Some(channel) = self.channels.get(key) else { return };
        let name = channel.name.clone();
        match &channel.topic {
            Some(topic) => {
                let text = format!("{name} :{}", topic.text);
                let origin = format!("{name} {} {}", topic.setter, topic.set_at);
                self.reply(id, reply::TOPIC, &text);
                self.reply(id, reply::TOPICWHOTIME, &origin);
            }
            None => self.reply(id, reply::NOTOPIC, &format!("{name} :No topic is set")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn a_topic_is_set_sent_and_shown_to_those_who_join() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.forget();
        world.after(60);
        world.says("alice", "TOPIC #a :all about pods");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 TOPIC #a :all about pods"]);
        world.says("bob", "JOIN #a");
        assert_eq!(
            world.heard("bob")[1..3],
            [
                ":irc.podwire.test 332 bob #a :all about pods",
                ":irc.podwire.test 333 bob #a alice!alice@127.0.0.1 1700000060",
            ]
        );
    }

    #[test]
    fn an_empty_topic_takes_the_topic_away() {
        let mut world = World::with(&["alice"]);
        for line in ["JOIN #a", "TOPIC #a :x", "TOPIC #a :"] {
            world.says("alice", line);
        }
        assert_eq!(world.heard("alice").last().unwrap(), ":alice!alice@127.0.0.1 TOPIC #a :");
        world.says("alice", "TOPIC #a");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 331 alice #a :No topic is set"]);
    }

    #[test]
    fn only_operators_set_a_locked_topic() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.forget();
        world.says("bob", "TOPIC #a :mine");
        assert_eq!(world.codes("bob"), ["482"]);
        world.says("alice", "MODE #a -t");
        world.forget();
        world.says("bob", "TOPIC #a :mine");
        assert_eq!(world.codes("bob"), ["TOPIC"]);
    }

    #[test]
    fn topic_errors_name_their_reason() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        for (line, code) in [("TOPIC", "461"), ("TOPIC #none", "403"), ("TOPIC #a :x", "442")] {
            world.says("bob", line);
            assert_eq!(world.codes("bob"), [code], "{line}");
        }
    }

    #[test]
    fn the_topic_of_a_secret_channel_is_told_to_its_members_only() {
        let mut world = World::with(&["alice", "bob"]);
        for line in ["JOIN #a", "TOPIC #a :plans", "MODE #a +s"] {
            world.says("alice", line);
        }
        for line in ["TOPIC #a", "TOPIC #a :mine"] {
            world.says("bob", line);
            assert_eq!(world.codes("bob"), ["403"], "{line}");
        }
        world.forget();
        world.says("alice", "TOPIC #a");
        assert_eq!(world.codes("alice"), ["332", "333"]);
    }

    #[test]
    fn a_long_topic_is_cut_at_the_advertised_length() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "JOIN #a");
        world.says("alice", &format!("TOPIC #a :{}", "x".repeat(400)));
        assert_eq!(world.heard("alice").last().unwrap().matches('x').count(), 300);
    }
}
