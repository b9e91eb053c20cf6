//! INVITE (RFC 2812 section 3.2.7).

use super::{ClientId, Server};
use crate::{line::Line, message::Message, refusal, reply};

impl Server {
    /// `INVITE nick channel`. The channel has to exist; on a channel with mode `i` only operators invite.
    pub(super) fn invite(&mut self, id: ClientId, message: &Message) {
        let (Some(nick), Some(channel_name)) = (message.parameter(0), message.parameter(1)) else {
            return self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["INVITE"]);
        };
        let Some((guest, client)) = self.find(nick) else {
            return self.refuse(id, refusal::NO_SUCH_NICK, &[nick]);
        };
        let (guest_nick, away) = (client.nick.clone(), client.away.clone());
        let Some((key, channel)) = self.find_channel(channel_name) else {
            return self.refuse(id, refusal::NO_SUCH_CHANNEL, &[channel_name]);
        };
        if !channel.members.contains_key(&id) {
            return self.refuse(id, refusal::NOT_ON_CHANNEL, &[channel_name]);
        }
        if channel.members.contains_key(&guest) {
            return self.refuse(id, refusal::USER_ON_CHANNEL, &[nick, channel_name]);
        }
        if channel.has('i') && !channel.is_operator(id) {
            return self.refuse(id, refusal::NOT_OPERATOR, &[channel_name]);
        }
        let written = channel.name.clone();
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.invite(guest);
        }
        let line = Line::new(&format!(":{} INVITE {guest_nick} :{written}", self.mask_of(id)));
        self.send(guest, line);
        self.reply(id, reply::INVITING, &format!("{guest_nick} {written}"));
        if let Some(away) = away {
            self.reply(id, reply::AWAY, &format!("{guest_nick} :{away}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn an_invitation_opens_an_invite_only_channel() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("alice", "MODE #a +i");
        world.forget();
        world.says("alice", "INVITE bob #a");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 341 alice bob #a"]);
        assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 INVITE bob :#a"]);
        world.says("bob", "JOIN #a");
        assert_eq!(world.codes("bob")[0], "JOIN");
    }

    #[test]
    fn an_invitation_opens_a_channel_that_is_full() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("alice", "MODE #a +l 1");
        world.says("bob", "JOIN #a");
        assert_eq!(world.codes("bob"), ["471"]);
        world.says("alice", "INVITE bob #a");
        world.forget();
        world.says("bob", "JOIN #a");
        assert_eq!(world.codes("bob")[0], "JOIN");
    }

    #[test]
    fn an_invitation_opens_no_ban_and_no_key() {
        for (modes, code) in [("+b bob", "474"), ("+k key", "475")] {
            let mut world = World::with(&["alice", "bob"]);
            world.says("alice", "JOIN #a");
            world.says("alice", &format!("MODE #a {modes}"));
            world.says("alice", "INVITE bob #a");
            world.forget();
            world.says("bob", "JOIN #a");
            assert_eq!(world.codes("bob"), [code], "{modes}");
        }
    }

    #[test]
    fn an_invitation_to_somebody_away_is_answered_with_the_away_message() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "AWAY :at tea");
        world.says("alice", "JOIN #a");
        world.forget();
        world.says("alice", "INVITE bob #a");
        assert_eq!(world.codes("alice"), ["341", "301"]);
    }

    #[test]
    fn invite_errors_name_their_reason() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.says("alice", "MODE #a +i");
        world.forget();
        for (who, line, code) in [
            ("alice", "INVITE carol", "461"),
            ("alice", "INVITE nobody #a", "401"),
            ("alice", "INVITE carol #none", "403"),
            ("carol", "INVITE bob #a", "442"),
            ("alice", "INVITE bob #a", "443"),
            ("bob", "INVITE carol #a", "482"),
        ] {
            world.says(who, line);
            assert_eq!(world.codes(who), [code], "{line}");
        }
    }
}
