//! The server as a pure state machine: an event goes in, effects come out. No socket, no clock and no task is known
//! here or below; `hub.rs` owns the one instance. This file holds the entry point and the dispatch of commands; what
//! each command means stands in the files of `server/`.

mod attendance;
mod channel;
mod channel_mode;
mod client;
mod departure;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
mod information;
mod invitation;
mod kick;
mod liveness;
mod negotiation;
mod nick;
mod operator;
mod outbox;
mod presence;
mod registration;
mod roster;
mod talk;
mod topic;
mod user_mode;
mod weather;
mod who;
mod whowas;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{casemap::Folded, line::Line, message::Message, refusal, secret::Secret, text::Cleaned};
use channel::Channel;
use client::Client;
pub(crate) use operator::Credentials;
use weather::Question;
use whowas::History;

/// The number of a connection, never used twice in the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u64);

/// What the server is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The password that PASS has to bring.
    pub(crate) password: Secret,
    /// What OPER has to bring; without it nobody becomes server operator.
    pub(crate) operator: Option<Credentials>,
    /// After this silence a client is sent a PING.
    pub(crate) ping_interval: Duration,
    /// After this silence following a PING a client is dropped.
    pub(crate) ping_timeout: Duration,
    /// A client that has not registered after this time is dropped.
    pub(crate) registration_timeout: Duration,
    /// A WEATHER question that has no answer after this time is given up.
    pub(crate) weather_timeout: Duration,
    /// The time since 1970 at which the clock of the events began.
    pub(crate) started: Duration,
}

/// What happens to the server.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection was accepted from `host`, an address as text.
    Connected { client: ClientId, host: String },
    /// A client sent a line; the text is cleaned (`text::clean`) and without its terminator.
    Line { client: ClientId, text: Cleaned },
    /// A client sent an over-long line, which was skipped.
    LineTooLong { client: ClientId },
    /// A connection ended, or was ended by its owner for `reason`.
    Gone { client: ClientId, reason: &'static str },
    /// Time passed.
    Tick,
    /// The process ends.
    Shutdown,
}

/// What the owner of the server has to do.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Queue a line for a client.
    Send { client: ClientId, line: Line },
    /// Close a connection after its queued lines.
    Close { client: ClientId },
    /// Log a sentence.
    Log(String),
}

/// The whole state: clients, channels, questions under way.
#[derive(Debug)]
pub(crate) struct Server {
    settings: Settings,
    clients: BTreeMap<ClientId, Client>,
    /// The nicks of registered clients. A nick is taken at registration, not before: who has not shown the password
    /// cannot keep a nick from others.
    nicks: HashMap<Folded, ClientId>,
    channels: BTreeMap<Folded, Channel>,
    questions: Vec<Question>,
    history: History,
    effects: Vec<Effect>,
    /// The time since the clock began.
    now: Duration,
    /// The greatest number of registered clients so far.
    most_registered: usize,
}

impl Server {
    /// A server without clients.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            clients: BTreeMap::new(),
            nicks: HashMap::new(),
            channels: BTreeMap::new(),
            questions: Vec::new(),
            history: History::default(),
            effects: Vec::new(),
            now: Duration::ZERO,
            most_registered: 0,
        }
    }

    /// Takes one event at `now`, the time since the clock began, and gives what has to be done, in order. Events of
    /// clients that are gone already have no effect.
    pub(crate) fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Connected { client, host } => {
                self.clients.insert(client, Client::new(host, now));
            }
            Event::Line { client, text } => self.line(client, &text),
            Event::LineTooLong { client } => {
                self.note_activity(client);
                self.refuse(client, refusal::INPUT_TOO_LONG, &[]);
            }
            Event::Gone { client, reason } => self.depart(client, reason, reason),
            Event::Tick => {
                self.check_silence();
                self.give_up_questions();
            }
            Event::Shutdown => self.dismiss_all(),
        }
        std::mem::take(&mut self.effects)
    }

    fn line(&mut self, id: ClientId, text: &Cleaned) {
        let Some(client) = self.clients.get(&id) else { return };
        let registered = client.is_registered();
        self.note_activity(id);
        let Some(message) = Message::parse(text.as_str()) else { return };
        if !text.was_utf8() {
            self.warn_of_bytes(id, &message);
        }
        match message.command.as_str() {
            "PASS" => self.pass(id, &message),
            "NICK" => self.nick(id, &message),
            "USER" => self.user(id, &message),
            "CAP" => self.cap(id, &message),
            "PING" => self.ping(id, &message),
            "QUIT" => self.quit(id, &message),
            // An answer to our PING has done its work by being a line; an ERROR from a client means nothing.
            "PONG" | "ERROR" => {}
            // NOTICE never makes an error, not even this one (RFC 2812 section 3.3.2).
            "NOTICE" if !registered => {}
            _ if !registered => self.refuse(id, refusal::NOT_REGISTERED, &[]),
            _ => self.registered_line(id, &message),
        }
    }

    fn registered_line(&mut self, id: ClientId, message: &Message) {
        match message.command.as_str() {
            "JOIN" => self.join(id, message),
            "PART" => self.part(id, message),
            "KICK" => self.kick(id, message),
            "KILL" => self.kill(id, message),
            "OPER" => self.oper(id, message),
            "WALLOPS" => self.wallops(id, message),
            "INVITE" => self.invite(id, message),
            "TOPIC" => self.topic(id, message),
            "MODE" => self.mode(id, message),
            "NAMES" => self.names(id, message),
            "LIST" => self.list(id, message),
            "WHO" => self.who(id, message),
            "WHOIS" => self.whois(id, message),
            "WHOWAS" => self.whowas(id, message),
            "PRIVMSG" => self.privmsg(id, message),
            "NOTICE" => self.notice(id, message),
            "WEATHER" => self.weather(id, message),
            "AWAY" => self.away(id, message),
            "USERHOST" => self.userhost(id, message),
            "ISON" => self.ison(id, message),
            "MOTD" => self.motd(id, message),
            "VERSION" => self.version(id, message),
            "LUSERS" => self.lusers(id, message),
            "LINKS" => self.links(id, message),
            "ADMIN" => self.admin(id, message),
            "INFO" => self.info(id, message),
            "TIME" => self.time(id, message),
            unknown => self.refuse(id, refusal::UNKNOWN_COMMAND, &[unknown]),
        }
    }

    /// `MODE` of a channel or of a user (RFC 2812 sections 3.1.5 and 3.2.3).
    fn mode(&mut self, id: ClientId, message: &Message) {
        match message.parameter(0) {
            None => self.refuse(id, refusal::NEED_MORE_PARAMETERS, &["MODE"]),
            Some(target) if crate::name::is_channel_like(target) => self.channel_mode(id, target, message),
            Some(target) => self.user_mode(id, target, message),
        }
    }

    /// The present Unix time in seconds.
    fn unix_time(&self) -> u64 {
        self.time_of_day().as_secs()
    }

    /// The present time since 1970.
    fn time_of_day(&self) -> Duration {
        self.settings.started + self.now
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientId, Event, fixture::World};
    use crate::text;

    #[test]
    fn an_unknown_command_is_421_with_its_name() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "Frobnicate a b");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 421 alice FROBNICATE :Unknown command"]);
    }

    #[test]
    fn every_command_but_those_of_registration_is_451_before_it() {
        for line in ["JOIN #a", "WEATHER Berlin", "PRIVMSG bob :hi", "NONSENSE", "MOTD", "WHO *", "MODE #a"] {
            let mut world = World::default();
            world.connects("early");
            world.says("early", line);
            assert_eq!(world.heard("early"), [":irc.podwire.test 451 * :You have not registered"], "{line}");
        }
    }

    #[test]
    fn empty_lines_are_ignored() {
        let mut world = World::with(&["alice"]);
        for line in ["", "   ", ":alice", "@tag"] {
            world.says("alice", line);
        }
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn an_over_long_line_is_417() {
        let mut world = World::with(&["alice"]);
        let client = world.id("alice");
        world.happens(Event::LineTooLong { client });
        assert_eq!(world.codes("alice"), ["417"]);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_warned_of_and_a_notice_is_not() {
        let mut world = World::with(&["alice", "bob"]);
        let client = world.id("alice");
        world.happens(Event::Line { client, text: text::clean(b"privmsg bob :caf\xe9") });
        assert_eq!(
            world.heard("alice"),
            [":irc.podwire.test WARN PRIVMSG INVALID_UTF8 :Bytes that are not UTF-8 were replaced"]
        );
        assert_eq!(world.heard("bob"), [":alice!alice@127.0.0.1 PRIVMSG bob :caf\u{fffd}"]);
        world.happens(Event::Line { client, text: text::clean(b"NOTICE bob :caf\xe9") });
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn events_of_a_client_that_is_gone_have_no_effect() {
        let mut world = World::with(&["alice"]);
        let client = ClientId(999);
        assert!(world.happens(Event::Line { client, text: text::clean(b"PRIVMSG alice :boo") }).is_empty());
        assert!(world.happens(Event::LineTooLong { client }).is_empty());
        assert!(world.happens(Event::Gone { client, reason: "Connection closed" }).is_empty());
    }

    #[test]
    fn mode_without_a_target_is_461() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "MODE");
        assert_eq!(world.heard("alice"), [":irc.podwire.test 461 alice MODE :Not enough parameters"]);
    }
}
