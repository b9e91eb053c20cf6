//! `MODE #channel`: questions and changes (RFC 2812 section 3.2.3). How the string is read stands in `mode.rs`.

use super::{
    Channel, ClientId, Server,
    channel::{Ban, Rank},
};
use crate::{
    casemap::Folded,
    isupport::{BANS_PER_CHANNEL, MASK_LENGTH},
    mask,
    message::Message,
    mode::{self, Change, Request},
    name, refusal, reply,
};

/// Room for the mode string in a line, in bytes: 510 without the longest source, the command and the channel.
const ROOM: usize = 320;

impl Server {
    /// `MODE channel [modes [parameters]]`.
    pub(super) fn channel_mode(&mut self, id: ClientId, channel_name: &str, message: &Message) {
        let Some((key, channel)) = self.find_channel(channel_name) else {
            return self.refuse(id, refusal::NO_SUCH_CHANNEL, &[channel_name]);
        };
        let is_member = channel.members.contains_key(&id);
        let (name, is_operator) = (channel.name.clone(), channel.is_operator(id));
        let Some(modes) = message.parameter(1) else {
            let (modes, created_at) = (channel.mode_string(is_member), channel.created_at);
            self.reply(id, reply::CHANNELMODEIS, &format!("{name} {modes}"));
            return self.reply(id, reply::CREATIONTIME, &format!("{name} {created_at}"));
        };
        let requests = mode::requests(modes, &message.parameters[2..]);
        let mut changes = Vec::new();
        let mut refused = false;
        for request in requests {
            match request {
                // Everybody may ask for the bans, and letters that mean nothing are refused to everybody.
                Request::BanList => self.send_bans(id, &key),
                Request::Unknown(letter) => self.refuse_letter(id, letter, &name),
                _ if refused => {}
                _ if !is_operator => {
                    refused = true;
                    let refusal = if is_member { refusal::NOT_OPERATOR } else { refusal::NOT_ON_CHANNEL };
                    self.refuse(id, refusal, &[&name]);
                }
                request => changes.extend(self.change_mode(id, &key, request)),
            }
        }
        let source = self.mask_of(id);
        for modes in mode::render(&changes, ROOM) {
            self.send_to_channel(&key, None, &format!(":{source} MODE {name} {modes}"));
        }
    }

    fn refuse_letter(&mut self, id: ClientId, letter: char, channel_name: &str) {
        let sentence = refusal::UNKNOWN_MODE.sentence;
        self.reply(id, refusal::UNKNOWN_MODE.code, &format!("{letter} :{sentence} for {channel_name}"));
    }

    /// Makes one change of an operator; gives it when something has changed.
    fn change_mode(&mut self, id: ClientId, key: &Folded, request: Request) -> Option<Change> {
        match request {
            Request::Flag { set, letter } => {
                let changed = self.channels.get_mut(key)?.change_flag(letter, set);
                changed.then_some(Change { set, letter, parameter: None })
            }
            Request::Key(wanted) => self.change_key(id, key, wanted),
            Request::Limit(limit) => {
                let channel = self.channels.get_mut(key)?;
                let changed = std::mem::replace(&mut channel.limit, limit) != limit;
                let parameter = limit.map(|limit| limit.to_string());
                changed.then_some(Change { set: limit.is_some(), letter: 'l', parameter })
            }
            Request::Rank { set, letter, nick } => self.change_rank(id, key, set, letter, &nick),
            Request::Ban { set, mask } => self.change_ban(id, key, set, &mask),
            Request::Missing => {
                self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["MODE"]);
                None
            }
            Request::Invalid { letter, parameter } => {
                let subjects = [key.as_str(), &letter.to_string(), &parameter];
                self.refuse(id, refusal::INVALID_MODE_PARAMETER, &subjects);
                None
            }
            // Both are answered before, to members who are no operators as well.
            Request::BanList | Request::Unknown(_) => None,
        }
    }

    fn change_key(&mut self, id: ClientId, key: &Folded, wanted: Option<String>) -> Option<Change> {
        if wanted.as_deref().is_some_and(|wanted| !name::is_key(wanted)) {
            self.refuse(id, refusal::INVALID_KEY, &[key.as_str()]);
            return None;
        }
        let channel = self.channels.get_mut(key)?;
        let before = std::mem::replace(&mut channel.key, wanted.clone());
        let changed = before != wanted;
        let set = wanted.is_some();
        // The key that ends is not repeated; the star keeps the number of parameters that clients count on.
        changed.then(|| Change { set, letter: 'k', parameter: wanted.or_else(|| Some("*".to_owned())) })
    }

    fn change_rank(&mut self, id: ClientId, key: &Folded, set: bool, letter: char, nick: &str) -> Option<Change> {
        let Some((target, client)) = self.find(nick) else {
            self.refuse(id, refusal::NO_SUCH_NICK, &[nick]);
            return None;
        };
        let nick = client.nick.clone();
        let channel = self.channels.get_mut(key)?;
        let Some(rank) = channel.members.get_mut(&target) else {
            self.refuse(id, refusal::USER_NOT_IN_CHANNEL, &[&nick, key.as_str()]);
            return None;
        };
        let held = match rank {
            Rank { operator, .. } if letter == 'o' => operator,
            Rank { voice, .. } => voice,
        };
        let changed = std::mem::replace(held, set) != set;
        changed.then_some(Change { set, letter, parameter: Some(nick) })
    }

    fn change_ban(&mut self, id: ClientId, key: &Folded, set: bool, wanted: &str) -> Option<Change> {
        let mask = mask::complete(wanted);
        if mask.len() > MASK_LENGTH || mask.contains(' ') || mask.starts_with(':') {
            self.refuse(id, refusal::INVALID_MODE_PARAMETER, &[key.as_str(), "b", wanted]);
            return None;
        }
        let (setter, set_at) = (self.mask_of(id), self.unix_time());
        let channel = self.channels.get_mut(key)?;
        let place = channel.bans.iter().position(|ban| ban.mask.eq_ignore_ascii_case(&mask));
        let listed = match (place, set) {
            (None, true) if channel.bans.len() >= BANS_PER_CHANNEL => {
                self.refuse(id, refusal::BAN_LIST_FULL, &[key.as_str(), &mask]);
                return None;
            }
            (None, true) => {
                channel.bans.push(Ban { mask: mask.clone(), setter, set_at });
                mask
            }
            // The members are told the mask as it was listed, so that their copy of the list loses it as well.
            (Some(place), false) => channel.bans.remove(place).mask,
            _ => return None,
        };
        Some(Change { set, letter: 'b', parameter: Some(listed) })
    }

    fn send_bans(&mut self, id: ClientId, key: &Folded) {
        let Some(channel) = self.channels.get(key) else { return };
        let Channel { name, bans, .. } = channel;
        let end = format!("{name} :End of channel ban list");
        let tails: Vec<String> =
            bans.iter().map(|ban| format!("{name} {} {} {}", ban.mask, ban.setter, ban.set_at)).collect();
        for tail in tails {
            self.reply(id, reply::BANLIST, &tail);
        }
        self.reply(id, reply::ENDOFBANLIST, &end);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

    /// Alice, the operator, and Bob on `#a`, who have heard nothing yet; Carol is not on it.
    fn on_a_channel() -> World {
        let mut world = World::with(&["alice", "bob", "carol"]);
        world.says("alice", "JOIN #a");
        world.says("bob", "JOIN #a");
        world.forget();
        world
    }

    #[test]
    fn a_new_channel_has_n_and_t_and_a_time_of_creation() {
        let mut world = on_a_channel();
        world.says("carol", "MODE #a");
        assert_eq!(
            world.heard("carol"),
            [":irc.podwire.test 324 carol #a +nt", ":irc.podwire.test 329 carol #a 1700000000"]
        );
    }

    #[test]
    fn changes_are_sent_to_all_members_and_no_message_without_a_change() {
        let mut world = on_a_channel();
        world.says("alice", "MODE #a +mi-t+ov bob bob");
        for nick in ["alice", "bob"] {
            assert_eq!(world.heard(nick), [":alice!alice@127.0.0.1 MODE #a +mi-t+ov bob bob"]);
        }
        world.says("alice", "MODE #a +mi-t+ov bob bob");
        world.says("alice", "MODE #a -kl");
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn only_operators_change_modes() {
        let mut world = on_a_channel();
        world.says("bob", "MODE #a +mi-t");
        assert_eq!(world.heard("bob"), [":irc.podwire.test 482 bob #a :You are not channel operator"]);
        world.says("carol", "MODE #a +m");
        assert_eq!(world.codes("carol"), ["442"]);
        world.says("alice", "MODE #a");
        assert!(world.heard("alice")[0].ends_with(" +nt"));
    }

    #[test]
    fn an_operator_loses_its_rights_with_its_rank() {
        let mut world = on_a_channel();
        world.says("alice", "MODE #a -o alice");
        world.forget();
        world.says("alice", "MODE #a +m");
        assert_eq!(world.codes("alice"), ["482"]);
    }

    #[test]
    fn a_moderated_channel_hears_only_operators_and_voices() {
        let mut world = on_a_channel();
        world.says("alice", "MODE #a +m");
        world.forget();
        world.says("bob", "PRIVMSG #a :hm");
        assert_eq!(world.codes("bob"), ["404"]);
        world.says("alice", "MODE #a +v bob");
        world.forget();
        world.says("bob", "PRIVMSG #a :hm");
        assert_eq!(world.heard("alice"), [":bob!bob@127.0.0.1 PRIVMSG #a :hm"]);
        world.says("carol", "NAMES #a");
        assert!(world.heard("carol")[0].ends_with(":@alice +bob"));
    }

    #[test]
    fn without_n_a_channel_hears_those_who_are_not_on_it() {
        let mut world = on_a_channel();
        world.says("carol", "PRIVMSG #a :hi");
        assert_eq!(world.codes("carol"), ["404"]);
        world.says("alice", "MODE #a -n");
        world.forget();
        world.says("carol", "PRIVMSG #a :hi");
        assert_eq!(world.codes("carol"), [""; 0]);
        assert_eq!(world.codes("bob"), ["PRIVMSG"]);
    }

    #[test]
    fn a_banned_member_is_not_heard() {
        let mut world = on_a_channel();
        world.says("alice", "MODE #a +b *!bob@*");
        world.forget();
        world.says("bob", "PRIVMSG #a :hm");
        assert_eq!(world.codes("bob"), ["404"]);
    }

    #[test]
    fn bans_are_completed_listed_and_taken_away_in_either_case() {
        let mut world = on_a_channel();
        world.says("alice", "MODE #a +b Eve");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 MODE #a +b Eve!*@*"]);
        world.says("alice", "MODE #a +b eve");
        assert_eq!(world.heard("alice"), [""; 0]);
        world.says("carol", "MODE #a b");
        assert_eq!(
            world.heard("carol"),
            [
                ":irc.podwire.test 367 carol #a Eve!*@* alice!alice@127.0.0.1 1700000000",
                ":irc.podwire.test 368 carol #a :End of channel ban list",
            ]
        );
        world.says("alice", "MODE #a -b EVE!*@*");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 MODE #a -b Eve!*@*"]);
        world.says("alice", "MODE #a +b");
        assert_eq!(world.codes("alice"), ["368"]);
    }

    #[test]
    fn the_ban_list_has_an_end() {
        let mut world = on_a_channel();
        for number in 0..64 {
            world.says("alice", &format!("MODE #a +b eve{number}"));
        }
        world.forget();
        world.says("alice", "MODE #a +b one-more");
        assert_eq!(world.codes("alice"), ["478"]);
    }

    #[test]
    fn the_key_is_shown_to_members_only_and_ends_as_a_star() {
        let mut world = on_a_channel();
        world.says("alice", "MODE #a +k sesame");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 MODE #a +k sesame"]);
        world.forget();
        world.says("bob", "MODE #a");
        assert!(world.heard("bob")[0].ends_with("+ntk sesame"));
        world.says("carol", "MODE #a");
        assert!(world.heard("carol")[0].ends_with("+ntk *"));
        world.says("alice", "MODE #a -k");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 MODE #a -k *"]);
    }

    #[test]
    fn mode_errors_name_their_reason() {
        let mut world = on_a_channel();
        for (line, code) in [
            ("MODE #none", "403"),
            ("MODE #a +X", "472"),
            ("MODE #a +o nobody", "401"),
            ("MODE #a +o carol", "441"),
            ("MODE #a +o", "461"),
            ("MODE #a +k", "461"),
            ("MODE #a +l x", "696"),
            ("MODE #a +k :a b", "525"),
            ("MODE #a +b :a b", "696"),
        ] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), [code], "{line}");
        }
        world.says("alice", &format!("MODE #a +b {}", "x".repeat(147)));
        assert_eq!(world.codes("alice"), ["696"]);
        for (line, answer) in [
            ("MODE #a +l :", "696 alice #a l * :The parameter of this mode is not valid"),
            ("MODE #a +k :", "525 alice #a :The key is not well formed"),
            ("MODE #a +o :", "461 alice MODE :Not enough parameters"),
            ("MODE #a +b :", "368 alice #a :End of channel ban list"),
        ] {
            world.says("alice", line);
            assert_eq!(world.heard("alice"), [format!(":irc.podwire.test {answer}")], "{line}");
        }
        world.says("alice", "MODE #a");
        assert!(world.heard("alice")[0].ends_with(" #a +nt"));
        world.says("alice", "MODE #a +X");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 472 alice X :is unknown mode char to me for #a"]);
    }

    #[test]
    fn many_long_bans_are_listed_in_lines_that_fit() {
        let mut world = on_a_channel();
        let masks: Vec<String> = ["p", "q", "r"].map(|letter| letter.repeat(145)).to_vec();
        world.says("alice", &format!("MODE #a +bbb {}", masks.join(" ")));
        let heard = world.heard("bob");
        assert_eq!(heard.len(), 2);
        for mask in masks {
            assert!(heard.iter().any(|line| line.contains(&format!("{mask}!*@*"))), "{heard:?}");
        }
    }
}
