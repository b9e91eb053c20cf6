//! What the server tells about itself: MOTD, VERSION, LUSERS, TIME (RFC 2812 section 3.4).

use super::{ClientId, Server};
use crate::{
    isupport::{SERVER_NAME, VERSION},
    message::Message,
    reply,
};

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
            self.reply(id, reply::VERSION, &format!("{VERSION} {SERVER_NAME} :A test pod of the podwire project"));
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
        if unknown > 0 {
            self.reply(id, reply::LUSERUNKNOWN, &format!("{unknown} :unknown connections"));
        }
        self.reply(id, reply::LUSERCHANNELS, &format!("{channels} :channels formed"));
        self.reply(id, reply::LUSERME, &format!(":I have {registered} clients and 0 servers"));
        let counts = format!("{registered} {most} :Current users {registered}, max {most}");
        self.reply(id, reply::LOCALUSERS, &counts);
        self.reply(id, reply::GLOBALUSERS, &counts);
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
    use super::super::fixture::World;

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
    fn the_time_moves() {
        let mut world = World::with(&["alice"]);
        world.after(5);
        world.says("alice", "TIME");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 391 alice irc.podwire.test :Unix time 1700000005"]);
    }
}
