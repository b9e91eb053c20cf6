//! KICK (RFC 2812 section 3.2.8).

use super::{ClientId, Server};
use crate::{
    isupport::{KICK_LENGTH, TARGETS_PER_COMMAND},
    message::Message,
    refusal, text,
};

impl Server {
    /// `KICK channel nick,… [reason]`.
    pub(super) fn kick(&mut self, id: ClientId, message: &Message) {
        let (Some(channel_name), Some(nicks)) = (message.parameter(0), message.parameter(1)) else {
            return self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["KICK"]);
        };
        let reason = message.parameter(2).map(str::to_owned);
        for (number, nick) in nicks.split(',').filter(|nick| !nick.is_empty()).enumerate() {
            if number >= TARGETS_PER_COMMAND {
                return self.refuse(id, refusal::TOO_MANY_TARGETS, &[nick]);
            }
            let Some((key, channel)) = self.find_channel(channel_name) else {
                return self.refuse(id, refusal::NO_SUCH_CHANNEL, &[channel_name]);
            };
            if !channel.members.contains_key(&id) {
                return self.refuse(id, refusal::NOT_ON_CHANNEL, &[channel_name]);
            }
            if !channel.is_operator(id) {
                return self.refuse(id, refusal::NOT_OPERATOR, &[channel_name]);
            }
            let written = channel.name.clone();
            let Some((victim, client)) = self.find(nick) else {
                self.refuse(id, refusal::NO_SUCH_NICK, &[nick]);
                continue;
            };
            if !client.channels.contains(&key) {
                self.refuse(id, refusal::USER_NOT_IN_CHANNEL, &[nick, channel_name]);
                continue;
            }
            let victim_nick = client.nick.clone();
            let reason = reason.as_deref().unwrap_or(&victim_nick);
            let content =
                format!(":{} KICK {written} {victim_nick} :{}", self.mask_of(id), text::cut(reason, KICK_LENGTH));
            self.send_to_channel(&key, None, &content);
            self.remove_member(&key, victim);
        }
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
