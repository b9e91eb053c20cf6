//! NAMES and LIST (RFC 2812 sections 3.2.5 and 3.2.6).

use super::{ClientId, Server};
use crate::{capability::Capability, isupport::TARGETS_PER_COMMAND, message::Message, reply, text};

/// Room for names in a `353`, in bytes: 510 without the server, the longest nick and the longest channel name.
const ROOM: usize = 380;

impl Server {
    /// `NAMES [channel,…]`; the answer about several ends once, with their names as they were asked for. Without a channel nothing is listed but the end: `LIST` and `NAMES` of one channel do that
    /// without a line for every member of every channel.
    pub(super) fn names(&mut self, id: ClientId, message: &Message) {
        match message.parameter(0) {
            None => self.reply(id, reply::ENDOFNAMES, "* :End of /NAMES list"),
            Some(names) => {
                let asked: Vec<&str> =
                    names.split(',').filter(|name| !name.is_empty()).take(TARGETS_PER_COMMAND).collect();
                if let &[channel_name] = asked.as_slice() {
                    return self.send_names(id, channel_name);
                }
                for channel_name in asked {
                    self.send_members(id, channel_name);
                }
                self.end_names(id, names);
            }
        }
    }

    /// Tells the client who is on a channel (`353`, `366`). A channel that does not exist, or whose existence is kept
    /// from the client, has an end and no names.
    pub(super) fn send_names(&mut self, id: ClientId, channel_name: &str) {
        let written = self.send_members(id, channel_name).unwrap_or_else(|| channel_name.to_owned());
        self.end_names(id, &written);
    }

    /// Sends the names alone, and gives the name of the channel as its first member wrote it.
    fn send_members(&mut self, id: ClientId, channel_name: &str) -> Option<String> {
        let all_signs = self.wants(id, Capability::MultiPrefix);
        let (_, channel) = self.find_channel(channel_name).filter(|(_, channel)| !channel.is_hidden_from(id))?;
        let visible = channel.members.iter().filter(|&(&member, _)| self.is_visible_to(member, id));
        let signed = visible.filter_map(|(member, rank)| {
            let signs = if all_signs { rank.signs() } else { rank.sign() };
            Some(format!("{signs}{}", self.clients.get(member)?.nick))
        });
        let names: Vec<String> = signed.collect();
        // RFC 2812 section 5.1, RPL_NAMREPLY: `@` marks a secret channel, `=` a public one; there are no private ones.
        let (mark, written) = (if channel.has('s') { '@' } else { '=' }, channel.name.clone());
        for names in text::fill(&names, ROOM) {
            self.reply(id, reply::NAMREPLY, &format!("{mark} {written} :{names}"));
        }
        Some(written)
    }

    fn end_names(&mut self, id: ClientId, subject: &str) {
        self.reply(id, reply::ENDOFNAMES, &format!("{} :End of /NAMES list", text::cut(subject, ROOM)));
    }

    /// Whether `viewer` may see `other` in NAMES and WHO: user mode `i` hides from those without a common channel.
    pub(super) fn is_visible_to(&self, other: ClientId, viewer: ClientId) -> bool {
        let (Some(seen), Some(seeing)) = (self.clients.get(&other), self.clients.get(&viewer)) else { return false };
        !seen.invisible || other == viewer || !seen.channels.is_disjoint(&seeing.channels)
    }

    /// `LIST [channel,…]`. Secret channels are listed to their members only.
    pub(super) fn list(&mut self, id: ClientId, message: &Message) {
        let wanted: Option<Vec<&str>> = message.parameter(0).map(|names| names.split(',').collect());
        let entry = |channel: &super::Channel| {
            let topic = channel.topic.as_ref().map_or("", |topic| &topic.text);
            format!("{} {} :{topic}", channel.name, channel.members.len())
        };
        let entries: Vec<String> = match wanted {
            None => self.channels.values().filter(|channel| !channel.is_hidden_from(id)).map(entry).collect(),
            Some(names) => names
                .into_iter()
                .filter_map(|name| self.find_channel(name))
                .filter(|(_, channel)| !channel.is_hidden_from(id))
                .map(|(_, channel)| entry(channel))
                .collect(),
        };
        self.reply(id, reply::LISTSTART, "Channel :Users  Name");
        for entry in entries {
            self.reply(id, reply::LIST, &entry);
        }
        self.reply(id, reply::LISTEND, ":End of /LIST");
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    #[test]
    fn a_channel_that_does_not_exist_has_no_names_and_an_end() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "NAMES #none");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 366 alice #none :End of /NAMES list"]);
        world.says("alice", "NAMES");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 366 alice * :End of /NAMES list"]);
    }

    #[test]
    fn several_channels_are_named_in_one_command() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "JOIN #a,#b");
        world.forget();
        world.says("alice", "NAMES #a,#none,#b");
        assert_eq!(
            world.heard("alice"),
            [
                ":irc.podwire.test 353 alice = #a :@alice",
                ":irc.podwire.test 353 alice = #b :@alice",
                ":irc.podwire.test 366 alice #a,#none,#b :End of /NAMES list",
            ]
        );
    }

    #[test]
    fn one_command_names_four_channels_at_most() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "JOIN #a");
        world.forget();
        world.says("alice", &format!("NAMES {}", ["#a"; 100].join(",")));
        assert_eq!(world.codes("alice"), ["353", "353", "353", "353", "366"]);
    }

    #[test]
    fn a_secret_channel_is_named_and_listed_to_its_members_only() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("alice", "MODE #a +s");
        world.forget();
        world.says("alice", "NAMES #a");
        assert_eq!(world.heard("alice")[0], ":irc.podwire.test 353 alice @ #a :@alice");
        for (line, codes) in [("NAMES #A", vec!["366"]), ("LIST", vec!["321", "323"]), ("LIST #a", vec!["321", "323"])]
        {
            world.says("bob", line);
            let heard = world.heard("bob");
            let found: Vec<&str> = heard.iter().filter_map(|line| line.split(' ').nth(1)).collect();
            assert_eq!(found, codes, "{line}");
            // Not even the case in which the members write the name is told.
            assert!(!heard.iter().any(|line| line.contains("#a ")), "{heard:?}");
        }
        for line in ["LIST", "LIST #a"] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), ["321", "322", "323"], "{line}");
        }
        world.says("bob", "JOIN #a");
        assert!(world.heard("bob")[1].contains(" 353 bob @ #a "));
        world.says("bob", "LIST");
        assert_eq!(world.codes("bob"), ["321", "322", "323"]);
        world.says("alice", "MODE #a -s");
        world.says("bob", "PART #a");
        world.forget();
        world.says("bob", "NAMES #a");
        assert_eq!(world.codes("bob"), ["353", "366"]);
    }

    #[test]
    fn with_multi_prefix_every_sign_stands_before_a_nick() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("alice", "MODE #a +v alice");
        world.says("bob", "JOIN #a");
        world.says("bob", "CAP REQ :multi-prefix");
        world.forget();
        for (nick, names) in [("alice", ":@alice bob"), ("bob", ":@+alice bob")] {
            world.says(nick, "NAMES #a");
            assert!(world.heard(nick)[0].ends_with(names), "{nick}");
        }
    }

    #[test]
    fn an_invisible_member_is_named_to_members_only() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.says("bob", "MODE bob +i");
        world.forget();
        world.says("alice", "NAMES #a");
        assert!(world.heard("alice")[0].ends_with(":@alice bob"));
        world.says("carol", "NAMES #a");
        assert!(world.heard("carol")[0].ends_with(":@alice"));
    }

    #[test]
    fn list_gives_channels_members_and_topics() {
        let mut world = World::with(&["alice", "bob"]);
        for line in ["JOIN #a,#b", "TOPIC #b :about b"] {
            world.says("alice", line);
        }
        world.says("bob", "JOIN #b");
        world.forget();
        world.says("bob", "LIST");
        assert_eq!(
            world.heard("bob"),
            [
                ":irc.podwire.test 321 bob Channel :Users  Name",
                ":irc.podwire.test 322 bob #a 1 :",
                ":irc.podwire.test 322 bob #b 2 :about b",
                ":irc.podwire.test 323 bob :End of /LIST",
            ]
        );
        world.says("bob", "LIST #B,#none");
        assert_eq!(world.heard("bob")[1..2], [":irc.podwire.test 322 bob #b 2 :about b"]);
    }

    #[test]
    fn many_members_are_named_in_lines_that_fit() {
        let mut world = World::default();
        let nicks: Vec<String> = (0..300).map(|number| format!("client{number}")).collect();
        for nick in &nicks {
            world.enters(nick);
            world.says(nick, "JOIN #crowd");
        }
        world.forget();
        world.says("client0", "NAMES #crowd");
        let heard = world.heard("client0");
        assert!(heard.iter().all(|line| line.len() <= 510));
        let named = heard
            .iter()
            .filter_map(|line| line.split_once(" = #crowd :"))
            .flat_map(|(_, names)| names.split(' '))
            .count();
        assert_eq!(named, 300);
    }
}
