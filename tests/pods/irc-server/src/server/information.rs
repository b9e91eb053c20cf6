//! What the server tells about itself: MOTD, VERSION, LUSERS, LINKS, TIME, ADMIN and INFO (RFC 2812 section 3.4).

use super::{ClientId, Server};
use crate::{
    isupport::{NETWORK, SERVER_NAME, VERSION},
    mask,
    message::Message,
    reply, text, timestamp,
};

/// What the server is, in a sentence.
const DESCRIPTION: &str = "A test pod of the podwire project";
/// Room for a mask that is repeated in a `365`, in bytes.
const ROOM: usize = 400;

/// The message of the day.
const MOTD: [&str; 2] = [
    "This is a test pod of the podwire project.",
    "WEATHER <city> asks the weather bot, for example: WEATHER New York (or: /quote WEATHER New York)",
];

impl Server {
    /// `MOTD [server]`.
    pub(super) fn motd(&mut self, id: ClientId, message: &Message) {
        if self.is_for_this_server(id, message.parameter(0)) {
            self.send_motd(id);
        }
    }

    /// Sends the message of the day.
    pub(super) fn send_motd(&mut self, id: ClientId) {
        self.reply(id, reply::MOTDSTART, &format!(":- {SERVER_NAME} message of the day -"));
        for sentence in MOTD {
            self.reply(id, reply::MOTD, &format!(":- {sentence}"));
        }
        self.reply(id, reply::ENDOFMOTD, ":End of /MOTD command");
    }

    /// `VERSION [server]`.
    pub(super) fn version(&mut self, id: ClientId, message: &Message) {
        if self.is_for_this_server(id, message.parameter(0)) {
            self.reply(id, reply::VERSION, &format!("{VERSION} {SERVER_NAME} :{DESCRIPTION}"));
            self.send_isupport(id);
        }
    }

    /// `LUSERS [mask [server]]`; the mask, which chooses servers, has only one to choose.
    pub(super) fn lusers(&mut self, id: ClientId, message: &Message) {
        if self.is_for_this_server(id, message.parameter(1)) {
            self.send_lusers(id);
        }
    }

    /// Sends how many clients and channels there are.
    pub(super) fn send_lusers(&mut self, id: ClientId) {
        let registered = self.nicks.len();
        let unknown = self.clients.len() - registered;
        let invisible = self.clients.values().filter(|client| client.invisible).count();
        let visible = registered - invisible;
        let (channels, most) = (self.channels.len(), self.most_registered);
        self.reply(
            id,
            reply::LUSERCLIENT,
            &format!(":There are {visible} users and {invisible} invisible on 1 servers"),
        );
        let operators = self.clients.values().filter(|client| client.operator).count();
        if operators > 0 {
            self.reply(id, reply::LUSEROP, &format!("{operators} :server operators online"));
        }
        if unknown > 0 {
            self.reply(id, reply::LUSERUNKNOWN, &format!("{unknown} :unknown connections"));
        }
        self.reply(id, reply::LUSERCHANNELS, &format!("{channels} :channels formed"));
        self.reply(id, reply::LUSERME, &format!(":I have {registered} clients and 0 servers"));
        let counts = format!("{registered} {most} :Current users {registered}, max {most}");
        self.reply(id, reply::LOCALUSERS, &counts);
        self.reply(id, reply::GLOBALUSERS, &counts);
    }

    /// `LINKS [[server] mask]`: one server, linked to itself.
    pub(super) fn links(&mut self, id: ClientId, message: &Message) {
        let (server, wanted) = match (message.parameter(0), message.parameter(1)) {
            (wanted, None) => (None, wanted),
            (server, wanted) => (server, wanted),
        };
        if !self.is_for_this_server(id, server) {
            return;
        }
        let wanted = wanted.unwrap_or("*");
        if mask::matches(wanted, SERVER_NAME) {
            self.reply(id, reply::LINKS, &format!("{SERVER_NAME} {SERVER_NAME} :0 {DESCRIPTION}"));
        }
        self.reply(id, reply::ENDOFLINKS, &format!("{} :End of /LINKS list", text::cut(wanted, ROOM)));
    }

    /// `ADMIN [server]`.
    pub(super) fn admin(&mut self, id: ClientId, message: &Message) {
        if self.is_for_this_server(id, message.parameter(0)) {
            self.reply(id, reply::ADMINME, &format!("{SERVER_NAME} :Administrative info"));
            self.reply(id, reply::ADMINLOC1, &format!(":{DESCRIPTION}"));
            self.reply(id, reply::ADMINLOC2, &format!(":Network {NETWORK}, one server"));
            self.reply(id, reply::ADMINEMAIL, ":Ask whoever started this pod");
        }
    }

    /// `INFO [server]`.
    pub(super) fn info(&mut self, id: ClientId, message: &Message) {
        if self.is_for_this_server(id, message.parameter(0)) {
            let started = timestamp::utc(self.settings.started);
            for sentence in [DESCRIPTION, VERSION, &format!("Started at {started}")] {
                self.reply(id, reply::INFO, &format!(":{sentence}"));
            }
            self.reply(id, reply::ENDOFINFO, ":End of /INFO list");
        }
    }

    /// `TIME [server]`.
    pub(super) fn time(&mut self, id: ClientId, message: &Message) {
        if self.is_for_this_server(id, message.parameter(0)) {
            let now = self.unix_time();
            self.reply(id, reply::TIME, &format!("{SERVER_NAME} :Unix time {now}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, World};

    #[test]
    fn the_message_of_the_day_begins_and_ends() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "MOTD");
        assert_eq!(world.codes("alice"), ["375", "372", "372", "376"]);
    }

    #[test]
    fn version_repeats_what_is_supported() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "VERSION");
        assert_eq!(world.codes("alice"), ["351", "005", "005"]);
    }

    #[test]
    fn counts_know_the_invisible_the_unregistered_and_the_most_so_far() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "QUIT");
        world.connects("early");
        world.says("alice", "MODE alice +i");
        world.says("alice", "JOIN #a");
        world.forget();
        world.says("alice", "LUSERS");
        let heard = world.heard("alice").join("\n");
        for part in ["0 users and 1 invisible", "253 alice 1 :", "254 alice 1 :", "1 clients", "265 alice 1 2 :"] {
            assert!(heard.contains(part), "{part} in {heard}");
        }
    }

    #[test]
    fn server_operators_are_counted_when_there_are_any() {
        let mut world = World::with_operator(&["alice", "bob"]);
        world.says("alice", "LUSERS");
        assert!(!world.codes("alice").contains(&"252".to_owned()));
        world.says("bob", &format!("OPER {OPERATOR}"));
        world.says("alice", "LUSERS");
        assert_eq!(world.heard("alice")[1], ":irc.podwire.test 252 alice 1 :server operators online");
    }

    #[test]
    fn the_one_server_is_linked_to_itself() {
        let mut world = World::with(&["alice"]);
        let (link, end) =
            ("364 alice irc.podwire.test irc.podwire.test :0 A test pod of the podwire project", "365 alice");
        for (line, expected) in [
            ("LINKS", vec![link.to_owned(), format!("{end} * :End of /LINKS list")]),
            ("LINKS *.test", vec![link.to_owned(), format!("{end} *.test :End of /LINKS list")]),
            ("LINKS elsewhere", vec![format!("{end} elsewhere :End of /LINKS list")]),
            ("LINKS irc.podwire.test *", vec![link.to_owned(), format!("{end} * :End of /LINKS list")]),
            ("LINKS elsewhere *", vec!["402 alice elsewhere :No such server".to_owned()]),
        ] {
            world.says("alice", line);
            let expected: Vec<String> = expected.iter().map(|tail| format!(":irc.podwire.test {tail}")).collect();
            assert_eq!(world.heard("alice"), expected, "{line}");
        }
    }

    #[test]
    fn admin_and_info_tell_what_the_server_is() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "ADMIN");
        assert_eq!(world.codes("alice"), ["256", "257", "258", "259"]);
        for line in ["INFO", "INFO irc.podwire.test", "INFO *podwire*", "INFO alice"] {
            world.says("alice", line);
            let heard = world.heard("alice");
            assert_eq!(heard[2], ":irc.podwire.test 371 alice :Started at 2023-11-14T22:13:20.000Z", "{line}");
            assert_eq!(heard[3], ":irc.podwire.test 374 alice :End of /INFO list", "{line}");
        }
    }

    #[test]
    fn the_time_moves() {
        let mut world = World::with(&["alice"]);
        world.after(5);
        world.says("alice", "TIME");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 391 alice irc.podwire.test :Unix time 1700000005"]);
    }
}
