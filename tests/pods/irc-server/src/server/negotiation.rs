//! CAP: which capabilities a client switches on (IRCv3 capability negotiation), before its registration and later.

use super::{ClientId, Server};
use crate::{
    capability::Capabilities, frame::LONGEST_CONTENT, isupport::SERVER_NAME, line::Line, message::Message, refusal,
};

impl Server {
    /// `CAP LS [version]`, `CAP LIST`, `CAP REQ :name …`, `CAP END`. `LS` and `REQ` hold back the registration until
    /// `END`; the limit of the registration goes on.
    pub(super) fn cap(&mut self, id: ClientId, message: &Message) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let subcommand = message.parameter(0).unwrap_or_default().to_ascii_uppercase();
        if let Some(handshake) = &mut client.handshake {
            match subcommand.as_str() {
                "LS" | "REQ" => handshake.negotiating = true,
                "END" => handshake.negotiating = false,
                _ => {}
            }
        }
        let active = client.capabilities.names();
        match subcommand.as_str() {
            "LS" => self.answer_cap(id, "LS", &Capabilities::offered().names()),
            "LIST" => self.answer_cap(id, "LIST", &active),
            "REQ" => self.request_capabilities(id, message.parameter(1).unwrap_or_default().trim_end_matches(' ')),
            "END" => self.complete(id),
            "" => self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["CAP"]),
            unknown => self.refuse(id, refusal::INVALID_CAP_COMMAND, &[unknown]),
        }
    }

    fn request_capabilities(&mut self, id: ClientId, request: &str) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        // An ACK has to repeat the whole request; one that would be cut would tell the client of another request.
        let fits = cap_line(&client.nick, "ACK", request).len() <= LONGEST_CONTENT;
        match client.capabilities.after(request).filter(|_| fits) {
            Some(wanted) => {
                client.capabilities = wanted;
                self.answer_cap(id, "ACK", request);
            }
            None => self.answer_cap(id, "NAK", request),
        }
    }

    fn answer_cap(&mut self, id: ClientId, answer: &str, names: &str) {
        let Some(client) = self.clients.get(&id) else { return };
        let line = Line::new(&cap_line(&client.nick, answer, names));
        self.send(id, line);
    }
}

fn cap_line(nick: &str, answer: &str, names: &str) -> String {
    format!(":{SERVER_NAME} CAP {nick} {answer} :{names}")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{PASSWORD, World};

    #[test]
    fn registration_waits_for_cap_end() {
        for opening in ["CAP LS 302", "CAP REQ :sasl", "CAP REQ :multi-prefix"] {
            let mut world = World::default();
            world.connects("alice");
            for line in [opening, &format!("PASS {PASSWORD}"), "NICK alice", "USER a 0 * :A"] {
                world.says("alice", line);
            }
            assert_eq!(world.heard("alice").len(), 1, "{opening}");
            world.says("alice", "CAP END");
            assert_eq!(world.codes("alice")[0], "001", "{opening}");
        }
    }

    #[test]
    fn a_negotiation_that_never_ends_is_ended_by_the_limit_of_the_registration() {
        let mut world = World::default();
        world.connects("x");
        for _ in 0..30 {
            world.after(1);
            world.says("x", "CAP REQ :multi-prefix");
        }
        assert!(world.is_closed("x"));
    }

    #[test]
    fn capabilities_are_listed_accepted_as_a_whole_and_refused_as_a_whole() {
        let mut world = World::default();
        world.connects("x");
        for line in [
            "CAP LS 302",
            "CAP LIST",
            "CAP REQ :multi-prefix sasl",
            "CAP LIST",
            "CAP REQ :server-time multi-prefix ",
            "CAP REQ -server-time",
            "CAP LIST",
            "CAP FROB",
        ] {
            world.says("x", line);
        }
        let answers: Vec<String> = world
            .heard("x")
            .into_iter()
            .map(|line| line.split_once(":irc.podwire.test ").map(|(_, answer)| answer.to_owned()).unwrap())
            .collect();
        assert_eq!(
            answers,
            [
                "CAP * LS :away-notify echo-message extended-join multi-prefix server-time",
                "CAP * LIST :",
                "CAP * NAK :multi-prefix sasl",
                "CAP * LIST :",
                "CAP * ACK :server-time multi-prefix",
                "CAP * ACK :-server-time",
                "CAP * LIST :multi-prefix",
                "410 * FROB :Unknown CAP subcommand",
            ]
        );
    }

    #[test]
    fn a_request_whose_answer_does_not_fit_is_refused() {
        let mut world = World::with(&["alice"]);
        world.says("alice", &format!("CAP REQ :{}", ["server-time"; 41].join(" ")));
        world.says("alice", "CAP LIST");
        let heard = world.heard("alice");
        assert!(heard[0].starts_with(":irc.podwire.test CAP alice NAK :server-time server-time"), "{heard:?}");
        assert_eq!(heard[1], ":irc.podwire.test CAP alice LIST :");
    }

    #[test]
    fn with_server_time_every_line_has_the_time_and_without_it_none() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "CAP REQ :server-time");
        assert_eq!(
            world.heard("alice"),
            ["@time=2023-11-14T22:13:20.000Z :irc.podwire.test CAP alice ACK :server-time"]
        );
        world.after(61);
        for line in ["JOIN #a", "NICK alicia"] {
            world.says("alice", line);
        }
        world.says("bob", "JOIN #a");
        world.says("bob", "PRIVMSG #a,alicia :hi");
        let heard = world.heard("alice");
        assert!(heard.iter().all(|line| line.starts_with("@time=2023-11-14T22:14:21.000Z :")), "{heard:?}");
        assert!(world.heard("bob").iter().all(|line| line.starts_with(':')));
        world.says("alice", "CAP REQ :-server-time");
        assert_eq!(world.heard("alice"), [":irc.podwire.test CAP alicia ACK :-server-time"]);
    }
}
