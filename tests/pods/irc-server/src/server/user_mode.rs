//! `MODE nick`: the modes of a user (RFC 2812 section 3.1.5). There are `i`, `o` and `w`.

use super::{Client, ClientId, Server};
use crate::{line::Line, message::Message, refusal, reply};

impl Server {
    /// `MODE nick [modes]`, of oneself only.
    pub(super) fn user_mode(&mut self, id: ClientId, target: &str, message: &Message) {
        match self.find(target) {
            None => return self.refuse(id, refusal::NO_SUCH_NICK, &[target]),
            Some((other, _)) if other != id => return self.refuse(id, refusal::USERS_DO_NOT_MATCH, &[]),
            Some(_) => {}
        }
        let Some(client) = self.clients.get_mut(&id) else { return };
        let before = modes_of(client);
        let Some(modes) = message.parameter(1) else {
            return self.reply(id, reply::UMODEIS, &format!("+{before}"));
        };
        let (mut set, mut unknown) = (true, false);
        for letter in modes.chars() {
            match letter {
                '+' | '-' => set = letter == '+',
                'i' => client.invisible = set,
                'w' => client.wallops = set,
                // Only OPER makes an operator; the wish is ignored, as RFC 2812 section 3.1.5 asks.
                'o' => client.operator &= set,
                _ => unknown = true,
            }
        }
        let changed = difference(&before, &modes_of(client));
        let source = client.mask();
        let nick = client.nick.clone();
        if !changed.is_empty() {
            self.send(id, Line::new(&format!(":{source} MODE {nick} :{changed}")));
        }
        if unknown {
            self.refuse(id, refusal::UNKNOWN_USER_MODE, &[]);
        }
    }
}

/// The letters of the modes that are set.
fn modes_of(client: &Client) -> String {
    [('i', client.invisible), ('o', client.operator), ('w', client.wallops)]
        .iter()
        .filter(|(_, set)| *set)
        .map(|(letter, _)| *letter)
        .collect()
}

/// The mode string that leads from the letters `before` to the letters `after`; empty when they are the same.
fn difference(before: &str, after: &str) -> String {
    let letters = |of: &str, not_in: &str| of.chars().filter(|&letter| !not_in.contains(letter)).collect::<String>();
    [('+', letters(after, before)), ('-', letters(before, after))]
        .iter()
        .filter(|(_, letters)| !letters.is_empty())
        .map(|(sign, letters)| format!("{sign}{letters}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, World};

    #[test]
    fn one_may_become_invisible_and_visible_again() {
        let mut world = World::with(&["alice"]);
        for (line, answer) in [
            ("MODE alice", ":irc.podwire.test 221 alice +"),
            ("MODE ALICE +i", ":alice!alice@127.0.0.1 MODE alice :+i"),
            ("MODE alice", ":irc.podwire.test 221 alice +i"),
            ("MODE alice -i", ":alice!alice@127.0.0.1 MODE alice :-i"),
        ] {
            world.says("alice", line);
            assert_eq!(world.heard("alice"), [answer], "{line}");
        }
    }

    #[test]
    fn a_change_that_changes_nothing_is_not_sent() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "MODE alice -i+i-iw-w");
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn several_changes_are_sent_in_one_line() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "MODE alice +w");
        world.says("alice", "MODE alice +i-w");
        world.says("alice", "MODE alice");
        assert_eq!(
            world.heard("alice"),
            [
                ":alice!alice@127.0.0.1 MODE alice :+w",
                ":alice!alice@127.0.0.1 MODE alice :+i-w",
                ":irc.podwire.test 221 alice +i",
            ]
        );
    }

    #[test]
    fn an_operator_is_made_by_oper_only_and_may_lay_its_rights_down() {
        let mut world = World::with_operator(&["alice"]);
        world.says("alice", "MODE alice +o");
        assert_eq!(world.heard("alice"), [""; 0]);
        world.says("alice", &format!("OPER {OPERATOR}"));
        world.forget();
        world.says("alice", "MODE alice +o-o+o");
        world.says("alice", "MODE alice");
        assert_eq!(world.heard("alice"), [":alice!alice@127.0.0.1 MODE alice :-o", ":irc.podwire.test 221 alice +"]);
    }

    #[test]
    fn user_mode_errors_name_their_reason() {
        let mut world = World::with(&["alice", "bob"]);
        for (line, codes) in [
            ("MODE bob", vec!["502"]),
            ("MODE bob +i", vec!["502"]),
            ("MODE nobody", vec!["401"]),
            ("MODE alice +X", vec!["501"]),
            ("MODE alice +Xi", vec!["MODE", "501"]),
        ] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), codes, "{line}");
        }
    }
}
