//! The server operator: OPER, KILL and WALLOPS (RFC 2812 sections 3.1.4, 3.7.1 and 4.7). Operators of a channel stand
//! in `channel.rs`.

use super::{ClientId, Effect, Server};
use crate::{
    isupport::{KILL_LENGTH, SERVER_NAME},
    line::Line,
    message::Message,
    refusal, reply,
    secret::Secret,
    text,
};

/// How often one client may give a wrong name or password; the last time ends its connection.
const MOST_FAILURES: u8 = 3;

/// What OPER has to bring.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The name.
    pub(crate) name: Secret,
    /// The password.
    pub(crate) password: Secret,
}

impl Credentials {
    /// Whether both are right. Both are compared always, so that the time does not tell which is wrong.
    fn are(&self, name: &str, password: &str) -> bool {
        self.name.is(name) & self.password.is(password)
    }
}

impl Server {
    /// `OPER name password`. A server that was given no operator refuses everybody with `491`.
    pub(super) fn oper(&mut self, id: ClientId, message: &Message) {
        let (Some(name), Some(password)) = (message.parameter(0), message.parameter(1)) else {
            return self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["OPER"]);
        };
        let Some(credentials) = &self.settings.operator else {
            return self.refuse(id, refusal::NO_OPERATOR_HOST, &[]);
        };
        let accepted = credentials.are(name, password);
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !accepted {
            client.failed_opers += 1;
            let (given_up, mask) = (client.failed_opers >= MOST_FAILURES, client.mask());
            self.effects.push(Effect::Log(format!("{mask} gave a wrong name or password of the server operator")));
            self.refuse(id, refusal::PASSWORD_MISMATCH, &[]);
            if given_up {
                self.depart(id, "Too many wrong operator passwords", "too many wrong operator passwords");
            }
            return;
        }
        let is_new = !std::mem::replace(&mut client.operator, true);
        let (mask, nick) = (client.mask(), client.nick.clone());
        self.reply(id, reply::YOUREOPER, ":You are now a server operator");
        if is_new {
            self.effects.push(Effect::Log(format!("{mask} became server operator")));
            self.send(id, Line::new(&format!(":{mask} MODE {nick} :+o")));
        }
    }

    /// `KILL nick :comment`. The comment goes to the victim and its neighbours, not into the log.
    pub(super) fn kill(&mut self, id: ClientId, message: &Message) {
        if !self.has_privileges(id) {
            return;
        }
        let (Some(nick), Some(comment)) = (message.parameter(0), message.parameter(1)) else {
            return self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["KILL"]);
        };
        if nick.eq_ignore_ascii_case(SERVER_NAME) {
            return self.refuse(id, refusal::CANNOT_KILL_SERVER, &[]);
        }
        let Some((victim, client)) = self.find(nick) else {
            return self.refuse(id, refusal::NO_SUCH_NICK, &[nick]);
        };
        let victim_nick = client.nick.clone();
        let Some(killer) = self.clients.get(&id) else { return };
        let (source, killer) = (killer.mask(), killer.nick.clone());
        let comment = text::cut(comment, KILL_LENGTH);
        self.send(victim, Line::new(&format!(":{source} KILL {victim_nick} :{comment}")));
        self.depart(victim, &format!("Killed ({killer} ({comment}))"), &format!("killed by {killer}"));
    }

    /// `WALLOPS :text`, to everybody with user mode `w`.
    pub(super) fn wallops(&mut self, id: ClientId, message: &Message) {
        if !self.has_privileges(id) {
            return;
        }
        let Some(text) = self.first_parameter(id, message) else { return };
        let listening: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| client.wallops).map(|(&listener, _)| listener).collect();
        let content = format!(":{} WALLOPS :{text}", self.mask_of(id));
        self.send_to_all(listening, &content);
    }

    /// Whether the client is a server operator; `481` otherwise.
    fn has_privileges(&mut self, id: ClientId) -> bool {
        let operator = self.clients.get(&id).is_some_and(|client| client.operator);
        if !operator {
            self.refuse(id, refusal::NO_PRIVILEGES, &[]);
        }
        operator
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, World};

    #[test]
    fn name_and_password_make_an_operator_who_is_told_and_logged_without_them() {
        let mut world = World::with_operator(&["alice"]);
        world.log.clear();
        world.says("alice", &format!("OPER {OPERATOR}"));
        assert_eq!(
            world.heard("alice"),
            [":irc.podwire.test 381 alice :You are now a server operator", ":alice!alice@127.0.0.1 MODE alice :+o",]
        );
        world.says("alice", &format!("OPER {OPERATOR}"));
        assert_eq!(world.codes("alice"), ["381"]);
        assert_eq!(world.log, ["alice!alice@127.0.0.1 became server operator"]);
    }

    #[test]
    fn without_an_operator_everybody_is_refused() {
        let mut world = World::with(&["alice"]);
        for _ in 0..10 {
            world.says("alice", &format!("OPER {OPERATOR}"));
            assert_eq!(
                world.heard("alice"),
                [":irc.podwire.test 491 alice :No operators here, or none from your host"]
            );
        }
        world.says("alice", "OPER root");
        assert_eq!(world.codes("alice"), ["461"]);
    }

    #[test]
    fn the_third_wrong_password_ends_the_connection() {
        let mut world = World::with_operator(&["alice", "bob"]);
        world.log.clear();
        for line in ["OPER root wrong", "OPER wrong operator-secret", "OPER operator-secret root"] {
            assert!(!world.is_closed("alice"));
            world.says("alice", line);
            assert_eq!(world.codes("alice")[0], "464", "{line}");
        }
        assert!(world.is_closed("alice"));
        assert_eq!(world.log.len(), 4);
        assert!(!world.log.iter().any(|line| line.contains("operator-secret")), "{:?}", world.log);
        world.says("bob", "OPER root x");
        world.says("bob", &format!("OPER {OPERATOR}"));
        assert_eq!(world.codes("bob"), ["464", "381", "MODE"]);
    }

    #[test]
    fn a_kill_is_told_to_the_victim_and_its_neighbours() {
        let mut world = World::with_operator(&["root", "alice", "bob"]);
        world.says("root", &format!("OPER {OPERATOR}"));
        for nick in ["alice", "bob"] {
            world.says(nick, "JOIN #a");
        }
        world.forget();
        world.log.clear();
        world.says("root", "KILL ALICE :private words");
        assert_eq!(
            world.heard("alice"),
            [
                ":root!root@127.0.0.1 KILL alice :private words",
                "ERROR :Closing link: 127.0.0.1 (Killed (root (private words)))",
            ]
        );
        assert!(world.is_closed("alice"));
        assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 QUIT :Killed (root (private words))"]);
        assert_eq!(world.heard("root"), [""; 0]);
        assert_eq!(world.log, ["alice!alice@127.0.0.1 left: killed by root"]);
        world.says("root", "KILL root :myself");
        assert!(world.is_closed("root"));
    }

    #[test]
    fn kill_and_wallops_errors_name_their_reason() {
        let mut world = World::with_operator(&["root", "alice"]);
        world.says("root", &format!("OPER {OPERATOR}"));
        world.forget();
        for (who, line, code) in [
            ("alice", "KILL root :x", "481"),
            ("alice", "KILL alice :x", "481"),
            ("alice", "KILL", "481"),
            ("alice", "WALLOPS :x", "481"),
            ("root", "KILL alice", "461"),
            ("root", "KILL alice :", "461"),
            ("root", "KILL nobody :x", "401"),
            ("root", "KILL irc.podwire.test :x", "483"),
            ("root", "WALLOPS", "461"),
            ("root", "WALLOPS :", "461"),
        ] {
            world.says(who, line);
            assert_eq!(world.codes(who), [code], "{line}");
        }
        assert!(!world.is_closed("alice"));
    }

    #[test]
    fn wallops_reaches_those_who_asked_for_it() {
        let mut world = World::with_operator(&["root", "alice", "bob"]);
        world.says("root", &format!("OPER {OPERATOR}"));
        world.says("alice", "MODE alice +w");
        world.forget();
        world.says("root", "WALLOPS :hello, all");
        assert_eq!(world.heard("alice"), [":root!root@127.0.0.1 WALLOPS :hello, all"]);
        assert_eq!(world.heard("bob"), [""; 0]);
        assert_eq!(world.heard("root"), [""; 0]);
    }

    #[test]
    fn an_operator_that_lays_its_rights_down_has_them_no_more() {
        let mut world = World::with_operator(&["root", "alice"]);
        world.says("root", &format!("OPER {OPERATOR}"));
        world.says("root", "MODE root -o");
        world.forget();
        world.says("root", "KILL alice :x");
        assert_eq!(world.codes("root"), ["481"]);
    }
}
