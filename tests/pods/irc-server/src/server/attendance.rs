//! Who is on a channel: JOIN and PART (RFC 2812 sections 3.2.1 and 3.2.2).

use super::{Channel, ClientId, Server};
use crate::{
    capability::Capability, casemap::Folded, isupport::CHANNELS_PER_CLIENT, message::Message, name, refusal, text,
};

/// The longest PART message that is passed on, in bytes.
const LONGEST_FAREWELL: usize = 250;

impl Server {
    /// `JOIN channel,… [key,…]`, or `JOIN 0` to leave every channel.
    pub(super) fn join(&mut self, id: ClientId, message: &Message) {
        let Some(names) = self.first_parameter(id, message) else { return };
        if names == "0" {
            return self.leave_all(id);
        }
        let mut keys = message.parameter(1).unwrap_or_default().split(',');
        for channel_name in names.split(',') {
            let key = keys.next().filter(|key| !key.is_empty());
            if !channel_name.is_empty() {
                self.join_one(id, channel_name, key);
            }
        }
    }

    fn join_one(&mut self, id: ClientId, channel_name: &str, channel_key: Option<&str>) {
        if !name::is_channel(channel_name) {
            return self.refuse(id, refusal::NO_SUCH_CHANNEL, &[channel_name]);
        }
        let created_at = self.unix_time();
        let folded = Folded::new(channel_name);
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.channels.contains(&folded) {
            return;
        }
        if client.channels.len() >= CHANNELS_PER_CLIENT {
            return self.refuse(id, refusal::TOO_MANY_CHANNELS, &[channel_name]);
        }
        let mask = client.mask();
        let channel = self.channels.entry(folded.clone()).or_insert_with(|| Channel::new(channel_name, created_at));
        if let Err(refusal) = channel.admit(id, &mask, channel_key) {
            return self.refuse(id, refusal, &[channel_name]);
        }
        client.channels.insert(folded.clone());
        let (written, has_topic) = (channel.name.clone(), channel.topic.is_some());
        self.announce(id, &folded, &format!(":{mask} JOIN {written}"));
        if has_topic {
            self.send_topic(id, &folded);
        }
        self.send_names(id, &written);
    }

    /// Tells the members, the newcomer among them, that the client has joined: with the real name where it is wanted
    /// (IRCv3 `extended-join`; there are no accounts), and that it is away (IRCv3 `away-notify`).
    fn announce(&mut self, id: ClientId, key: &Folded, join: &str) {
        let Some(client) = self.clients.get(&id) else { return };
        let extended = format!("{join} * :{}", client.real_name);
        let away = client.away.as_ref().map(|away| format!(":{} AWAY :{away}", client.mask()));
        let members = self.members_but(key, None);
        let (with_name, plain): (Vec<_>, Vec<_>) =
            members.iter().copied().partition(|&member| self.wants(member, Capability::ExtendedJoin));
        self.send_to_all(plain, join);
        self.send_to_all(with_name, &extended);
        if let Some(away) = away {
            let told: Vec<ClientId> = members
                .into_iter()
                .filter(|&member| member != id && self.wants(member, Capability::AwayNotify))
                .collect();
            self.send_to_all(told, &away);
        }
    }

    fn leave_all(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(&id) else { return };
        for key in client.channels.clone() {
            self.leave(id, &key, "");
        }
    }

    /// `PART channel,… [message]`.
    pub(super) fn part(&mut self, id: ClientId, message: &Message) {
        let Some(names) = self.first_parameter(id, message) else { return };
        let farewell = text::cut(message.parameter(1).unwrap_or_default(), LONGEST_FAREWELL);
        for channel_name in names.split(',').filter(|channel_name| !channel_name.is_empty()) {
            match self.find_channel(channel_name) {
                None => self.refuse(id, refusal::NO_SUCH_CHANNEL, &[channel_name]),
                Some((_, channel)) if !channel.members.contains_key(&id) => {
                    self.refuse(id, refusal::NOT_ON_CHANNEL, &[channel_name]);
                }
                Some((key, _)) => self.leave(id, &key, farewell),
            }
        }
    }

    fn leave(&mut self, id: ClientId, key: &Folded, farewell: &str) {
        let Some(channel) = self.channels.get(key) else { return };
        let tail = if farewell.is_empty() { String::new() } else { format!(" :{farewell}") };
        let content = format!(":{} PART {}{tail}", self.mask_of(id), channel.name);
        self.send_to_channel(key, None, &content);
        self.remove_member(key, id);
    }

    /// Takes a client off a channel, silently, and the channel away with its last member.
    pub(super) fn remove_member(&mut self, key: &Folded, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.channels.remove(key);
        }
        if let Some(channel) = self.channels.get_mut(key) {
            channel.members.remove(&id);
            if channel.members.is_empty() {
                self.channels.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn the_first_on_a_channel_is_its_operator() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "JOIN #Podwire");
        assert_eq!(
            world.heard("alice"),
            [
                ":alice!alice@127.0.0.1 JOIN #Podwire",
                ":irc.podwire.test 353 alice = #Podwire :@alice",
                ":irc.podwire.test 366 alice #Podwire :End of /NAMES list",
            ]
        );
    }

    #[test]
    fn a_join_is_sent_to_all_members_with_the_name_of_the_channel() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #Podwire");
        world.forget();
        world.says("bob", "JOIN #podWIRE");
        assert_eq!(world.heard("alice"), [":bob!bob@127.0.0.1 JOIN #Podwire"]);
        assert_eq!(world.heard("bob")[1], ":irc.podwire.test 353 bob = #Podwire :@alice bob");
    }

    #[test]
    fn with_extended_join_a_join_has_the_real_name_and_no_account() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        for nick in ["alice", "carol"] {
            world.says(nick, "JOIN #a");
        }
        world.says("alice", "CAP REQ :extended-join");
        world.forget();
        world.says("bob", "JOIN #a");
        assert_eq!(world.heard("alice"), [":bob!bob@127.0.0.1 JOIN #a * :bob of the test"]);
        assert_eq!(world.heard("carol"), [":bob!bob@127.0.0.1 JOIN #a"]);
        assert_eq!(world.heard("bob")[0], ":bob!bob@127.0.0.1 JOIN #a");
    }

    #[test]
    fn with_away_notify_somebody_away_who_joins_is_told_to_be_away() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        for nick in ["alice", "carol"] {
            world.says(nick, "JOIN #a");
        }
        for nick in ["alice", "bob"] {
            world.says(nick, "CAP REQ :away-notify");
        }
        world.says("bob", "AWAY :at tea");
        world.forget();
        world.says("bob", "JOIN #a");
        assert_eq!(world.heard("alice"), [":bob!bob@127.0.0.1 JOIN #a", ":bob!bob@127.0.0.1 AWAY :at tea"]);
        assert_eq!(world.codes("carol"), ["JOIN"]);
        assert_eq!(world.codes("bob"), ["JOIN", "353", "366"]);
    }

    #[test]
    fn joining_twice_is_nothing() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "JOIN #a");
        world.forget();
        world.says("alice", "JOIN #A");
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn several_channels_take_their_keys_in_order() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a,#b,#c");
        world.says("alice", "MODE #a +k one");
        world.says("alice", "MODE #c +k three");
        world.says("bob", "JOIN #a,,#b,#c one,,,three");
        assert_eq!(world.codes("bob"), ["JOIN", "353", "366"].repeat(3));
    }

    #[test]
    fn a_wrong_or_missing_key_is_475() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("alice", "MODE #a +k one");
        for line in ["JOIN #a", "JOIN #a One", "JOIN #a ,one"] {
            world.says("bob", line);
            assert_eq!(world.heard("bob"), [":irc.podwire.test 475 bob #a :Cannot join channel (+k)"], "{line}");
        }
    }

    #[test]
    fn join_0_leaves_every_channel() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "JOIN #a,#b");
        world.forget();
        world.says("alice", "JOIN 0");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 PART #a", ":alice!alice@127.0.0.1 PART #b"]);
        world.says("alice", "PART #a");
        assert_eq!(world.codes("alice"), ["403"]);
    }

    #[test]
    fn names_that_are_no_channel_are_403() {
        let mut world = World::with(&["alice"]);
        let long = format!("JOIN #{}", "c".repeat(50));
        for (line, code) in [
            ("JOIN podwire", "403"),
            ("JOIN &local", "403"),
            ("JOIN #", "403"),
            ("JOIN :#a b", "403"),
            (long.as_str(), "403"),
            ("JOIN", "461"),
        ] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), [code], "{line}");
        }
    }

    #[test]
    fn the_twenty_first_channel_is_405() {
        let mut world = World::with(&["alice"]);
        for number in 0..20 {
            world.says("alice", &format!("JOIN #{number}"));
        }
        world.forget();
        world.says("alice", "JOIN #one-more");
        assert_eq!(world.codes("alice"), ["405"]);
    }

    #[test]
    fn limit_invitation_and_ban_refuse_with_their_numerics() {
        for (modes, code) in [("+l 1", "471"), ("+i", "473"), ("+b b?b!*@127.*", "474")] {
            let mut world = World::with(&["alice", "bob"]);
            world.says("alice", "JOIN #a");
            world.says("alice", &format!("MODE #a {modes}"));
            world.says("bob", "JOIN #a");
            assert_eq!(world.codes("bob"), [code], "{modes}");
        }
    }

    #[test]
    fn a_part_is_sent_to_all_members_with_its_message() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.forget();
        world.says("bob", "PART #a :see you");
        for nick in ["alice", "bob"] {
            assert_eq!(world.heard(nick), [":bob!bob@127.0.0.1 PART #a :see you"]);
        }
    }

    #[test]
    fn part_errors_name_their_reason() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        for (line, code) in [("PART", "461"), ("PART #none", "403"), ("PART #a", "442")] {
            world.says("bob", line);
            assert_eq!(world.codes("bob"), [code], "{line}");
        }
    }

    #[test]
    fn a_channel_ends_with_its_last_member() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("alice", "MODE #a +k key");
        world.says("alice", "PART #a");
        world.says("bob", "JOIN #a");
        assert!(world.heard("bob")[1].ends_with(":@bob"));
    }
}
