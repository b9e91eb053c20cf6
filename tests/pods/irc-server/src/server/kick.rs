//! KICK (RFC 2812 section 3.2.8).

use super::{ClientId, Server};
use crate::{
    isupport::{KICK_LENGTH, TARGETS_PER_COMMAND},
    message::Message,
    refusal,
    refusal::Refusal,
    text,
};

impl Server {
    /// `KICK channel,… nick,… [reason]`: one channel and many nicks, or as many channels as nicks. The members are told of
    /// each nick in a line of its own.
    pub(super) fn kick(&mut self, id: ClientId, message: &Message) {
        let (Some(channels), Some(nicks)) = (message.parameter(0), message.parameter(1)) else {
            return self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["KICK"]);
        };
        let channels: Vec<&str> = channels.split(',').filter(|name| !name.is_empty()).collect();
        let nicks: Vec<&str> = nicks.split(',').filter(|nick| !nick.is_empty()).collect();
        if channels.len() != 1 && channels.len() != nicks.len() {
            return self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["KICK"]);
        }
        for (number, (channel_name, nick)) in channels.iter().cycle().zip(&nicks).enumerate() {
            if number >= TARGETS_PER_COMMAND {
                return self.refuse(id, refusal::TOO_MANY_TARGETS, &[nick]);
            }
            if let Err((refusal, subjects)) = self.kick_one(id, channel_name, nick, message.parameter(2)) {
                self.refuse(id, refusal, &subjects);
            }
        }
    }

    fn kick_one<'m>(
        &mut self,
        id: ClientId,
        channel_name: &'m str,
        nick: &'m str,
        reason: Option<&str>,
    ) -> Result<(), (Refusal, Vec<&'m str>)> {
        let (key, channel) = self.find_channel(channel_name).ok_or((refusal::NO_SUCH_CHANNEL, vec![channel_name]))?;
        if !channel.members.contains_key(&id) {
            return Err((refusal::NOT_ON_CHANNEL, vec![channel_name]));
        }
        if !channel.is_operator(id) {
            return Err((refusal::NOT_OPERATOR, vec![channel_name]));
        }
        let written = channel.name.clone();
        let (victim, client) = self.find(nick).ok_or((refusal::NO_SUCH_NICK, vec![nick]))?;
        if !client.channels.contains(&key) {
            return Err((refusal::USER_NOT_IN_CHANNEL, vec![nick, channel_name]));
        }
        let victim_nick = client.nick.clone();
        let Some(kicker) = self.clients.get(&id) else { return Ok(()) };
        let reason = text::cut(reason.unwrap_or(&kicker.nick), KICK_LENGTH);
        let content = format!(":{} KICK {written} {victim_nick} :{reason}", kicker.mask());
        self.send_to_channel(&key, None, &content);
        self.remove_member(&key, victim);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn a_kick_of_an_operator_is_sent_to_everybody() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.forget();
        world.says("alice", "KICK #A BOB :too loud");
        for nick in ["alice", "bob"] {
            assert_eq!(world.heard(nick), [":alice!alice@127.0.0.1 KICK #a bob :too loud"]);
        }
        world.says("bob", "PRIVMSG #a :still here?");
        assert_eq!(world.codes("bob"), ["404"]);
    }

    #[test]
    fn a_kick_without_a_reason_has_the_nick_of_the_kicker() {
        let mut world = World::with(&["alice", "bob"]);
        for line in ["KICK #a bob", "KICK #a bob :"] {
            world.says("alice", "JOIN #a");
            world.says("bob", "JOIN #a");
            world.forget();
            world.says("alice", line);
            assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 KICK #a bob :alice"], "{line}");
        }
    }

    #[test]
    fn as_many_channels_as_nicks_are_taken_in_pairs() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        for nick in ["alice", "bob", "carol"] {
            world.says(nick, "JOIN #a,#b");
        }
        world.forget();
        world.says("alice", "KICK #a,#b bob,carol :out");
        assert_eq!(
            world.heard("carol"),
            [":alice!alice@127.0.0.1 KICK #a bob :out", ":alice!alice@127.0.0.1 KICK #b carol :out"]
        );
        for line in ["KICK #a,#b carol", "KICK #a,#b carol,carol,bob", "KICK , bob"] {
            world.says("alice", line);
            assert_eq!(world.codes("alice").last().unwrap(), "461", "{line}");
        }
    }

    #[test]
    fn kick_errors_name_their_reason() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.forget();
        for (who, line, code) in [
            ("alice", "KICK #a", "461"),
            ("alice", "KICK #none bob", "403"),
            ("carol", "KICK #a bob", "442"),
            ("bob", "KICK #a alice", "482"),
            ("alice", "KICK #a nobody", "401"),
            ("alice", "KICK #a carol", "441"),
        ] {
            world.says(who, line);
            assert_eq!(world.codes(who), [code], "{line}");
        }
    }

    #[test]
    fn a_kick_reaches_four_targets_and_the_fifth_is_407() {
        let mut world = World::with(&["alice", "b1", "b2", "b3", "b4", "b5"]);
        for nick in ["alice", "b1", "b2", "b3", "b4", "b5"] {
            world.says(nick, "JOIN #a");
        }
        world.forget();
        world.says("alice", "KICK #a b1,b2,b3,b4,b5");
        assert_eq!(world.codes("alice"), ["KICK", "KICK", "KICK", "KICK", "407"]);
    }
}
