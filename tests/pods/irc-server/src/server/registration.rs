//! Registration: PASS, USER, and the moment at which all is complete (RFC 2812 section 3.1). NICK and CAP, which are
//! commands of registered clients as well, stand in `nick.rs` and `negotiation.rs`.

use super::{ClientId, Effect, Server};
use crate::{
    casemap::Folded,
    isupport::{self, NETWORK, REAL_NAME_LENGTH, SERVER_NAME, VERSION},
    message::Message,
    name, refusal, reply, text,
};

impl Server {
    /// `PASS password`. A wrong one ends the connection at once.
    pub(super) fn pass(&mut self, id: ClientId, message: &Message) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(handshake) = &mut client.handshake else {
            return self.refuse(id, refusal::ALREADY_REGISTERED, &[]);
        };
        match message.parameters.first() {
            None => self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["PASS"]),
            Some(given) if self.settings.password.is(given) => handshake.password_accepted = true,
            Some(_) => self.turn_away(id),
        }
    }

    fn turn_away(&mut self, id: ClientId) {
        self.refuse(id, refusal::PASSWORD_MISMATCH, &[]);
        self.depart(id, "Password incorrect or missing", "wrong or missing password");
    }

    /// `USER user 0 * :real name`, neither name empty.
    pub(super) fn user(&mut self, id: ClientId, message: &Message) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.is_registered() {
            return self.refuse(id, refusal::ALREADY_REGISTERED, &[]);
        }
        let real_name = message.parameter(3).map(|real_name| real_name.trim_matches(' ')).unwrap_or_default();
        let Some(given) = message.parameter(0).filter(|_| !real_name.is_empty()) else {
            return self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["USER"]);
        };
        let user = name::user(given);
        if user.is_empty() {
            return self.refuse(id, refusal::INVALID_USER_NAME, &[]);
        }
        client.user = user;
        client.real_name = text::cut(real_name, REAL_NAME_LENGTH).to_owned();
        self.complete(id);
    }

    /// Registers the client if nothing is missing.
    pub(super) fn complete(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(handshake) = &client.handshake else { return };
        if handshake.negotiating || !client.has_introduced_itself() {
            return;
        }
        if !handshake.password_accepted {
            return self.turn_away(id);
        }
        let folded = Folded::new(&client.nick);
        if self.nicks.contains_key(&folded) {
            // Another client was faster; this one has to choose again.
            let taken = std::mem::replace(&mut client.nick, "*".to_owned());
            return self.refuse(id, refusal::NICK_IN_USE, &[&taken]);
        }
        client.handshake = None;
        client.last_spoke_at = self.now;
        let mask = client.mask();
        self.nicks.insert(folded, id);
        self.most_registered = self.most_registered.max(self.nicks.len());
        self.effects.push(Effect::Log(format!("{mask} joined the server")));
        self.welcome(id, &mask);
    }

    fn welcome(&mut self, id: ClientId, mask: &str) {
        self.reply(id, reply::WELCOME, &format!(":Welcome to the {NETWORK} network, {mask}"));
        self.reply(id, reply::YOURHOST, &format!(":Your host is {SERVER_NAME}, running version {VERSION}"));
        let started = self.settings.started.as_secs();
        self.reply(id, reply::CREATED, &format!(":This server was started at Unix time {started}"));
        self.reply(id, reply::MYINFO, &format!("{SERVER_NAME} {VERSION} iow biklmnostv bklov"));
        self.send_isupport(id);
        self.send_lusers(id);
        self.send_motd(id);
    }

    /// Sends the `005` lines.
    pub(super) fn send_isupport(&mut self, id: ClientId) {
        for tokens in isupport::lines() {
            self.reply(id, reply::ISUPPORT, &format!("{tokens} :are supported by this server"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{PASSWORD, World};

    #[test]
    fn registration_sends_001_to_005_counts_and_motd_in_order() {
        let mut world = World::default();
        world.connects("alice");
        world.says("alice", &format!("PASS {PASSWORD}"));
        world.says("alice", "NICK alice");
        world.says("alice", "USER a 0 * :Alice A.");
        assert_eq!(
            world.codes("alice"),
            ["001", "002", "003", "004", "005", "005", "251", "254", "255", "265", "266", "375", "372", "372", "376"]
        );
        assert_eq!(world.log, ["alice!a@127.0.0.1 joined the server"]);
    }

    #[test]
    fn nick_and_user_may_come_in_either_order() {
        let mut world = World::default();
        world.connects("alice");
        for line in [&format!("PASS {PASSWORD}"), "USER a 0 * :A", "NICK alice"] {
            world.says("alice", line);
        }
        assert_eq!(world.codes("alice")[0], "001");
    }

    #[test]
    fn a_wrong_password_is_464_and_the_end() {
        for wrong in ["PASS nonsense", "PASS :", "PASS SECRET"] {
            let mut world = World::default();
            world.connects("eve");
            world.says("eve", wrong);
            assert_eq!(
                world.heard("eve"),
                [
                    ":irc.podwire.test 464 * :Password incorrect or missing",
                    "ERROR :Closing link: 127.0.0.1 (Password incorrect or missing)"
                ],
                "{wrong}"
            );
            assert!(world.is_closed("eve"), "{wrong}");
        }
    }

    #[test]
    fn a_missing_password_is_464_and_the_end() {
        let mut world = World::default();
        world.connects("eve");
        world.says("eve", "NICK eve");
        world.says("eve", "USER e 0 * :E");
        assert_eq!(world.codes("eve"), ["464", ":Closing"]);
        assert!(world.is_closed("eve"));
    }

    #[test]
    fn the_log_names_no_password() {
        let mut world = World::default();
        world.connects("eve");
        world.says("eve", "PASS almost-the-secret");
        assert_eq!(world.log, ["a client from 127.0.0.1 left before it registered: wrong or missing password"]);
    }

    #[test]
    fn pass_and_user_after_registration_are_462() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "PASS x");
        world.says("alice", "USER a 0 * :A");
        assert_eq!(world.codes("alice"), ["462", "462"]);
        assert!(!world.is_closed("alice"));
    }

    #[test]
    fn missing_parameters_at_registration_are_461_and_431() {
        let mut world = World::default();
        world.connects("x");
        for line in ["PASS", "USER a 0 *", "USER a 0 * :", "USER a 0 * :  ", "USER : 0 * :A", "CAP", "NICK", "NICK :"] {
            world.says("x", line);
        }
        assert_eq!(world.codes("x"), ["461", "461", "461", "461", "461", "461", "431", "431"]);
    }

    #[test]
    fn a_user_name_of_nothing_usable_is_468() {
        let mut world = World::default();
        world.connects("x");
        world.says("x", "USER @!@ 0 * :X");
        assert_eq!(world.codes("x"), ["468"]);
    }

    #[test]
    fn an_unregistered_client_keeps_no_nick_from_others() {
        let mut world = World::default();
        world.connects("squatter");
        world.says("squatter", &format!("PASS {PASSWORD}"));
        world.says("squatter", "NICK alice");
        world.enters("alice");
        world.says("squatter", "USER s 0 * :S");
        assert_eq!(world.heard("squatter"), [":irc.podwire.test 433 * alice :This nick is already in use"]);
        world.says("squatter", "NICK other");
        assert_eq!(world.codes("squatter")[0], "001");
    }
}
