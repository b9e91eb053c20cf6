//! `MODE nick`: the modes of a user (RFC 2812 section 3.1.5). There is one, `i`.

use super::{ClientId, Server};
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
        let Some(modes) = message.parameter(1) else {
            let modes = if client.invisible { "+i" } else { "+" };
            return self.reply(id, reply::UMODEIS, modes);
        };
        let before = client.invisible;
        let (mut set, mut unknown) = (true, false);
        for letter in modes.chars() {
            match letter {
                '+' | '-' => set = letter == '+',
                'i' => client.invisible = set,
                _ => unknown = true,
            }
        }
        if client.invisible != before {
            let sign = if client.invisible { '+' } else { '-' };
            let line = Line::new(&format!(":{} MODE {} :{sign}i", client.mask(), client.nick));
            self.send(id, line);
        }
        if unknown {
            self.refuse(id, refusal::UNKNOWN_USER_MODE, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;

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
        world.says("alice", "MODE alice -i+i-i");
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn user_mode_errors_name_their_reason() {
        let mut world = World::with(&["alice", "bob"]);
        for (line, codes) in [
            ("MODE bob", vec!["502"]),
            ("MODE bob +i", vec!["502"]),
            ("MODE nobody", vec!["401"]),
            ("MODE alice +oXw", vec!["501"]),
            ("MODE alice +oi", vec!["MODE", "501"]),
        ] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), codes, "{line}");
        }
    }
}
