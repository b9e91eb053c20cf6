//! PRIVMSG and NOTICE (RFC 2812 section 3.3; IRCv3 `echo-message`).

use super::{ClientId, Server};
use crate::{
    capability::Capability, isupport::TARGETS_PER_COMMAND, line::Line, message::Message, name, refusal,
    refusal::Refusal, reply,
};

impl Server {
    /// `PRIVMSG target,… :text`.
    pub(super) fn privmsg(&mut self, id: ClientId, message: &Message) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.last_spoke_at = self.now;
        }
        let Some(targets) = message.parameter(0) else {
            let sentence = format!("{} (PRIVMSG)", refusal::NO_RECIPIENT.sentence);
            return self.reply(id, refusal::NO_RECIPIENT.code, &format!(":{sentence}"));
        };
        let Some(text) = message.parameter(1) else { return self.refuse(id, refusal::NO_TEXT, &[]) };
        for (number, target) in targets.split(',').filter(|target| !target.is_empty()).enumerate() {
            if number >= TARGETS_PER_COMMAND {
                return self.refuse(id, refusal::TOO_MANY_TARGETS, &[target]);
            }
            if let Err(refusal) = self.deliver(id, "PRIVMSG", target, text) {
                self.refuse(id, refusal, &[target]);
                continue;
            }
            let absence = self.find(target).and_then(|(_, client)| Some((client.nick.clone(), client.away.clone()?)));
            if let Some((nick, away)) = absence {
                self.reply(id, reply::AWAY, &format!("{nick} :{away}"));
            }
        }
    }

    /// `NOTICE target,… :text`. Nothing is ever answered to a notice: programs talk to programs with it.
    pub(super) fn notice(&mut self, id: ClientId, message: &Message) {
        let (Some(targets), Some(text)) = (message.parameter(0), message.parameter(1)) else { return };
        for target in targets.split(',').filter(|target| !target.is_empty()).take(TARGETS_PER_COMMAND) {
            // The refusal is not lost: RFC 2812 section 3.3.2 forbids to send it.
            let _refusal = self.deliver(id, "NOTICE", target, text);
        }
    }

    fn deliver(&mut self, id: ClientId, command: &str, target: &str, text: &str) -> Result<(), Refusal> {
        let source = self.mask_of(id);
        let except = (!self.wants(id, Capability::EchoMessage)).then_some(id);
        if name::is_channel_like(target) {
            let (key, channel) = self.find_channel(target).ok_or(refusal::NO_SUCH_CHANNEL)?;
            if !channel.lets_speak(id, &source) {
                return Err(refusal::CANNOT_SEND);
            }
            let content = format!(":{source} {command} {} :{text}", channel.name);
            self.send_to_channel(&key, except, &content);
            // Who speaks to a channel without being on it is not among those whom the channel tells.
            if except.is_none() && !self.members_but(&key, None).contains(&id) {
                self.send(id, Line::new(&content));
            }
        } else {
            let (receiver, client) = self.find(target).ok_or(refusal::NO_SUCH_NICK)?;
            let line = Line::new(&format!(":{source} {command} {} :{text}", client.nick));
            self.send(receiver, line.clone());
            if except.is_none() {
                self.send(id, line);
            }
            self.note_answer(id, receiver);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn a_message_to_a_nick_arrives_there_only() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        world.says("alice", "PRIVMSG BOB :hello  there :)");
        assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 PRIVMSG bob :hello  there :)"]);
        assert_eq!(world.heard("alice"), [""; 0]);
        assert_eq!(world.heard("carol"), [""; 0]);
    }

    #[test]
    fn a_message_to_a_channel_arrives_at_all_other_members() {
        let mut world = World::with(&["alice", "bob", "carol", "dave"]);
        for nick in ["alice", "bob", "carol"] {
            world.says(nick, "JOIN #a");
        }
        world.forget();
        world.says("alice", "PRIVMSG #A :hello");
        for nick in ["bob", "carol"] {
            assert_eq!(world.heard(nick), [":alice!alice@127.0.0.1 PRIVMSG #a :hello"]);
        }
        for nick in ["alice", "dave"] {
            assert_eq!(world.heard(nick), [""; 0]);
        }
    }

    #[test]
    fn with_echo_message_a_client_hears_what_of_its_own_was_sent_on() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "JOIN #B");
        world.says("alice", "CAP REQ :echo-message");
        world.forget();
        for (line, echo) in [
            ("PRIVMSG BOB :hi", ":alice!alice@127.0.0.1 PRIVMSG bob :hi"),
            ("NOTICE bob :hi", ":alice!alice@127.0.0.1 NOTICE bob :hi"),
            ("NOTICE #b :hi", ""),
            ("PRIVMSG nobody :hi", ":irc.podwire.test 401 alice nobody :No such nick or channel"),
        ] {
            world.says("alice", line);
            assert_eq!(world.heard("alice").join("\n"), echo, "{line}");
        }
        world.says("bob", "MODE #b -n");
        world.says("alice", "PRIVMSG #b :from outside");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 PRIVMSG #B :from outside"]);
        world.says("alice", "JOIN #b");
        world.forget();
        world.says("alice", "PRIVMSG #b :from inside");
        for nick in ["alice", "bob"] {
            assert_eq!(world.heard(nick), [":alice!alice@127.0.0.1 PRIVMSG #B :from inside"]);
        }
        // The message and its echo (IRCv3 `echo-message`).
        world.says("alice", "PRIVMSG alice :note");
        assert_eq!(world.codes("alice"), ["PRIVMSG", "PRIVMSG"]);
    }

    #[test]
    fn message_errors_name_their_reason() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "JOIN #b");
        for (line, code) in [
            ("PRIVMSG", "411"),
            ("PRIVMSG bob", "412"),
            ("PRIVMSG bob :", "412"),
            ("PRIVMSG nobody :x", "401"),
            ("PRIVMSG $* :x", "401"),
            ("PRIVMSG #none :x", "403"),
            ("PRIVMSG #b :x", "404"),
        ] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), [code], "{line}");
        }
    }

    #[test]
    fn a_message_reaches_four_targets_and_the_fifth_is_407() {
        let mut world = World::with(&["alice", "b1", "b2", "b3", "b4", "b5"]);
        world.says("alice", "PRIVMSG b1,b2,b3,b4,b5 :hi");
        assert_eq!(world.codes("alice"), ["407"]);
        assert_eq!(world.codes("b4"), ["PRIVMSG"]);
        assert_eq!(world.codes("b5"), [""; 0]);
    }

    #[test]
    fn a_notice_arrives_and_is_never_answered() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "JOIN #b");
        world.says("bob", "AWAY :tea");
        world.forget();
        world.says("alice", "NOTICE bob :psst");
        assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 NOTICE bob :psst"]);
        world.connects("early");
        for line in
            ["NOTICE", "NOTICE bob", "NOTICE nobody :x", "NOTICE #none :x", "NOTICE #b :x", "NOTICE a,b,c,d,e :x"]
        {
            world.says("alice", line);
            world.says("early", line);
        }
        assert_eq!(world.heard("alice"), [""; 0]);
        assert_eq!(world.heard("early"), [""; 0]);
    }
}
