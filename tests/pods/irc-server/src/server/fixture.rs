//! The state machine for unit tests: named clients without sockets, a clock that is moved by hand, and what each
//! client has heard.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{ClientId, Credentials, Effect, Event, Server, Settings};
use crate::{secret::Secret, text};

/// The password of every test server.
pub(super) const PASSWORD: &str = "secret";
/// Name and password with which OPER succeeds where [`World::with_operator`] has made the server.
pub(super) const OPERATOR: &str = "root operator-secret";

/// A server and its clients. Pings go out after 120 s, time-outs are 60 s (ping), 30 s (registration), 10 s (weather).
pub(super) struct World {
    server: Server,
    ids: HashMap<String, ClientId>,
    heard: HashMap<ClientId, Vec<String>>,
    closed: HashSet<ClientId>,
    now: Duration,
    /// What was logged.
    pub(super) log: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        Self::new(None)
    }
}

impl World {
    fn new(operator: Option<Credentials>) -> Self {
        let settings = Settings {
            password: Secret::new(PASSWORD.to_owned()),
            operator,
            ping_interval: Duration::from_secs(120),
            ping_timeout: Duration::from_secs(60),
            registration_timeout: Duration::from_secs(30),
            weather_timeout: Duration::from_secs(10),
            started: Duration::from_secs(1_700_000_000),
        };
        Self {
            server: Server::new(settings),
            ids: HashMap::new(),
            heard: HashMap::new(),
            closed: HashSet::new(),
            now: Duration::ZERO,
            log: Vec::new(),
        }
    }

    /// A world in which these clients are registered and have heard nothing yet.
    pub(super) fn with(nicks: &[&str]) -> Self {
        Self::default().and(nicks)
    }

    /// The same with a server that knows an operator.
    pub(super) fn with_operator(nicks: &[&str]) -> Self {
        let (name, password) = OPERATOR.split_once(' ').unwrap();
        let [name, password] = [name, password].map(|text| Secret::new(text.to_owned()));
        Self::new(Some(Credentials { name, password })).and(nicks)
    }

    fn and(mut self, nicks: &[&str]) -> Self {
        for nick in nicks {
            self.enters(nick);
        }
        self
    }

    /// Connects a client; `name` is how the test calls it from now on, whatever its nick is.
    pub(super) fn connects(&mut self, name: &str) {
        let client = ClientId(self.ids.len() as u64 + 1);
        self.ids.insert(name.to_owned(), client);
        self.happens(Event::Connected { client, host: "127.0.0.1".to_owned() });
    }

    /// Connects and registers a client under its name, and forgets the greeting.
    pub(super) fn enters(&mut self, nick: &str) {
        self.connects(nick);
        self.says(nick, &format!("PASS {PASSWORD}"));
        self.says(nick, &format!("NICK {nick}"));
        self.says(nick, &format!("USER {nick} 0 * :{nick} of the test"));
        assert_eq!(self.codes(nick).first().map(String::as_str), Some("001"), "{nick} could not register");
    }

    pub(super) fn id(&self, name: &str) -> ClientId {
        self.ids[name]
    }

    pub(super) fn says(&mut self, name: &str, line: &str) {
        let client = self.id(name);
        self.happens(Event::Line { client, text: text::clean(line.as_bytes()) });
    }

    /// The state itself.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Lets seconds pass.
    pub(super) fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.happens(Event::Tick);
    }

    pub(super) fn happens(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.server.handle(self.now, event);
        for effect in &effects {
            match effect {
                Effect::Send { client, line } => {
                    assert!(!self.closed.contains(client), "a line after the close: {line:?}");
                    self.heard.entry(*client).or_default().push(line.content().to_owned());
                }
                Effect::Close { client } => {
                    self.closed.insert(*client);
                }
                Effect::Log(sentence) => self.log.push(sentence.clone()),
            }
        }
        effects
    }

    /// What the client has heard since the last look.
    pub(super) fn heard(&mut self, name: &str) -> Vec<String> {
        self.heard.remove(&self.id(name)).unwrap_or_default()
    }

    /// The second words (numerics, commands) of what the client has heard since the last look.
    pub(super) fn codes(&mut self, name: &str) -> Vec<String> {
        self.heard(name).iter().map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
    }

    /// Forgets what everybody has heard.
    pub(super) fn forget(&mut self) {
        self.heard.clear();
    }

    pub(super) fn is_closed(&self, name: &str) -> bool {
        self.closed.contains(&self.id(name))
    }
}
