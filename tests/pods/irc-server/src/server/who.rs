//! WHO and WHOIS (RFC 2812 section 3.6). WHOWAS stands in `whowas.rs`.

use super::{Client, ClientId, Server};
use crate::{capability::Capability, isupport::SERVER_NAME, mask, message::Message, refusal, reply, text};

/// Room for channels in a `319`, in bytes: 510 without the server and two nicks.
const ROOM: usize = 400;

impl Server {
    /// `WHO [channel | mask] [o]`.
    pub(super) fn who(&mut self, id: ClientId, message: &Message) {
        let wanted = message.parameter(0).unwrap_or("*");
        let operators_only = message.parameter(1) == Some("o");
        for tail in self.who_tails(wanted, id, operators_only) {
            self.reply(id, reply::WHOREPLY, &tail);
        }
        self.reply(id, reply::ENDOFWHO, &format!("{} :End of WHO list", text::cut(wanted, ROOM)));
    }

    fn who_tails(&self, wanted: &str, viewer: ClientId, operators_only: bool) -> Vec<String> {
        let all_signs = self.wants(viewer, Capability::MultiPrefix);
        let matters = |client: &Client| client.operator || !operators_only;
        let channel = self.find_channel(wanted).filter(|(_, channel)| !channel.is_hidden_from(viewer));
        if let Some((_, channel)) = channel {
            let visible = channel.members.iter().filter(|&(&member, _)| self.is_visible_to(member, viewer));
            return visible
                .filter_map(|(member, rank)| Some((self.clients.get(member)?, rank)))
                .filter(|(client, _)| matters(client))
                .map(|(client, rank)| {
                    who_tail(client, &channel.name, if all_signs { rank.signs() } else { rank.sign() })
                })
                .collect();
        }
        // A nick spelled out finds an invisible client too; only searching does not.
        let found = self.clients.iter().filter(|&(&other, client)| {
            let is_named = client.nick.eq_ignore_ascii_case(wanted);
            client.is_registered()
                && matters(client)
                && (is_named || (fits(client, wanted) && self.is_visible_to(other, viewer)))
        });
        found.map(|(_, client)| who_tail(client, "*", "")).collect()
    }

    /// `WHOIS [server] nick,…`; as on most servers only the first nick is looked up.
    pub(super) fn whois(&mut self, id: ClientId, message: &Message) {
        let (server, nicks) = match (message.parameter(0), message.parameter(1)) {
            (None, _) => return self.refuse(id, refusal::NO_NICK_GIVEN, &[]),
            (Some(nicks), None) => (None, nicks),
            (server, Some(nicks)) => (server, nicks),
        };
        if !self.is_for_this_server(id, server) {
            return;
        }
        let nick = nicks.split(',').next().unwrap_or_default();
        if let Some((found, client)) = self.find(nick) {
            let nick = client.nick.clone();
            for (code, tail) in self.whois_tails(found, client, id) {
                self.reply(id, code, &format!("{nick} {tail}"));
            }
            self.reply(id, reply::ENDOFWHOIS, &format!("{nick} :End of /WHOIS list"));
        } else {
            self.refuse(id, refusal::NO_SUCH_NICK, &[nick]);
            self.reply(id, reply::ENDOFWHOIS, &format!("{} :End of /WHOIS list", text::cut(nick, ROOM)));
        }
    }

    fn whois_tails(&self, found: ClientId, client: &Client, viewer: ClientId) -> Vec<(&'static str, String)> {
        let mut tails = vec![(reply::WHOISUSER, format!("{} {} * :{}", client.user, client.host, client.real_name))];
        if self.is_visible_to(found, viewer) {
            let channels: Vec<String> = client
                .channels
                .iter()
                .filter_map(|key| self.channels.get(key))
                .filter(|channel| !channel.is_hidden_from(viewer))
                .filter_map(|channel| Some(format!("{}{}", channel.members.get(&found)?.sign(), channel.name)))
                .collect();
            tails.extend(text::fill(&channels, ROOM).iter().map(|line| (reply::WHOISCHANNELS, format!(":{line}"))));
        }
        tails.push((reply::WHOISSERVER, format!("{SERVER_NAME} :A test pod of the podwire project")));
        if client.operator {
            tails.push((reply::WHOISOPERATOR, ":is a server operator".to_owned()));
        }
        if let Some(away) = &client.away {
            tails.push((reply::AWAY, format!(":{away}")));
        }
        let idle = self.now.saturating_sub(client.last_spoke_at).as_secs();
        let signed_on = (self.settings.started + client.connected_at).as_secs();
        tails.push((reply::WHOISIDLE, format!("{idle} {signed_on} :seconds idle, signon time")));
        tails
    }
}

/// Whether WHO with this mask finds the client: by nick, user, host, real name or server; `0` finds all.
fn fits(client: &Client, wanted: &str) -> bool {
    let subjects = [&client.nick, &client.user, &client.host, &client.real_name];
    wanted == "0" || mask::matches(wanted, SERVER_NAME) || subjects.iter().any(|subject| mask::matches(wanted, subject))
}

fn who_tail(client: &Client, channel: &str, signs: &str) -> String {
    let Client { user, host, nick, real_name, .. } = client;
    let presence = if client.away.is_some() { 'G' } else { 'H' };
    let star = if client.operator { "*" } else { "" };
    format!("{channel} {user} {host} {SERVER_NAME} {nick} {presence}{star}{signs} :0 {real_name}")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, World};

    #[test]
    fn who_of_a_channel_lists_its_members_with_presence_and_rank() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.says("bob", "AWAY :tea");
        world.forget();
        world.says("alice", "WHO #A");
        assert_eq!(
            world.heard("alice"),
            [
                ":irc.podwire.test 352 alice #a alice 127.0.0.1 irc.podwire.test alice H@ :0 alice of the test",
                ":irc.podwire.test 352 alice #a bob 127.0.0.1 irc.podwire.test bob G :0 bob of the test",
                ":irc.podwire.test 315 alice #A :End of WHO list",
            ]
        );
    }

    #[test]
    fn who_finds_by_mask_and_hides_the_invisible() {
        let mut world = World::with(&["alice", "alan", "bob"]);
        world.says("bob", "WHO al*");
        assert_eq!(world.codes("bob"), ["352", "352", "315"]);
        world.says("alan", "MODE alan +i");
        for (line, found) in [("WHO al*", 1), ("WHO alan", 1), ("WHO *", 2), ("WHO", 2), ("WHO 0", 2), ("WHO * o", 0)] {
            world.says("bob", line);
            assert_eq!(world.codes("bob").len() - 1, found, "{line}");
        }
    }

    #[test]
    fn who_and_whois_mark_server_operators() {
        let mut world = World::with_operator(&["alice", "bob"]);
        for nick in ["alice", "bob"] {
            world.says(nick, "JOIN #a");
        }
        world.says("alice", &format!("OPER {OPERATOR}"));
        world.says("alice", "AWAY :tea");
        world.forget();
        for (line, flags) in [("WHO alice", "G*"), ("WHO #a", "G*@"), ("WHO * o", "G*"), ("WHO #a o", "G*@")] {
            world.says("bob", line);
            let heard = world.heard("bob");
            assert!(heard[0].contains(&format!(" alice {flags} :0 ")), "{line}: {heard:?}");
            assert_eq!(heard.len(), if line == "WHO #a" { 3 } else { 2 }, "{line}");
        }
        world.says("bob", "WHOIS alice");
        assert!(world.heard("bob").contains(&":irc.podwire.test 313 bob alice :is a server operator".to_owned()));
        world.says("alice", "WHOIS bob");
        assert!(!world.codes("alice").contains(&"313".to_owned()));
    }

    #[test]
    fn a_secret_channel_is_shown_to_its_members_only() {
        let mut world = World::with(&["alice", "bob", "carol"]);
        for line in ["JOIN #a", "JOIN #b", "MODE #a +s"] {
            world.says("alice", line);
        }
        world.says("carol", "JOIN #a");
        world.forget();
        world.says("bob", "WHO #a");
        assert_eq!(world.codes("bob"), ["315"]);
        for (nick, channels) in [("bob", ":@#b"), ("carol", ":@#a @#b"), ("alice", ":@#a @#b")] {
            world.says(nick, "WHOIS alice");
            let heard = world.heard(nick);
            assert!(heard[1].ends_with(channels), "{nick}: {heard:?}");
        }
        world.says("carol", "WHO #a");
        assert_eq!(world.codes("carol"), ["352", "352", "315"]);
    }

    #[test]
    fn with_multi_prefix_who_has_every_sign() {
        let mut world = World::with(&["alice"]);
        for line in ["JOIN #a", "MODE #a +v alice", "CAP REQ :multi-prefix"] {
            world.says("alice", line);
        }
        world.forget();
        world.says("alice", "WHO #a");
        assert!(world.heard("alice")[0].contains(" alice H@+ :0 "));
    }

    #[test]
    fn whois_tells_user_channels_server_absence_and_idleness() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "JOIN #b");
        world.says("bob", "JOIN #a");
        world.says("bob", "AWAY :tea");
        world.after(7);
        world.says("alice", "WHOIS BOB");
        assert_eq!(
            world.heard("alice"),
            [
                ":irc.podwire.test 311 alice bob bob 127.0.0.1 * :bob of the test",
                ":irc.podwire.test 319 alice bob :@#a @#b",
                ":irc.podwire.test 312 alice bob irc.podwire.test :A test pod of the podwire project",
                ":irc.podwire.test 301 alice bob :tea",
                ":irc.podwire.test 317 alice bob 7 1700000000 :seconds idle, signon time",
                ":irc.podwire.test 318 alice bob :End of /WHOIS list",
            ]
        );
    }

    #[test]
    fn channels_of_the_invisible_are_hidden_from_clients_on_no_common_channel() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "JOIN #b");
        world.says("bob", "MODE bob +i");
        world.says("alice", "WHOIS bob");
        assert!(!world.codes("alice").contains(&"319".to_owned()));
        world.says("alice", "WHOIS bob bob");
        assert_eq!(world.codes("alice")[0], "311");
    }

    #[test]
    fn speaking_ends_idleness() {
        let mut world = World::with(&["alice"]);
        world.after(9);
        world.says("alice", "PRIVMSG alice :hm");
        world.after(2);
        world.forget();
        world.says("alice", "WHOIS alice");
        assert!(world.heard("alice").iter().any(|line| line.contains(" 317 alice alice 2 ")));
    }

    #[test]
    fn whois_errors_name_their_reason() {
        let mut world = World::with(&["alice"]);
        for (line, codes) in [
            ("WHOIS", vec!["431"]),
            ("WHOIS nobody", vec!["401", "318"]),
            ("WHOIS irc.elsewhere.test alice", vec!["402"]),
        ] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), codes, "{line}");
        }
    }
}
