//! What the server knows of one client. How a client comes and goes stands in `registration.rs` and `departure.rs`.

use std::{collections::BTreeSet, time::Duration};

use crate::{capability::Capabilities, casemap::Folded};

/// How far an unregistered client has come.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// PASS brought the right password.
    pub(super) password_accepted: bool,
    /// CAP LS or CAP REQ was sent and CAP END was not: registration waits.
    pub(super) negotiating: bool,
}

/// One connection and who is on it.
#[derive(Debug)]
pub(super) struct Client {
    /// The nick, `*` until one is chosen: so it stands in replies before registration.
    pub(super) nick: String,
    /// The user name, empty until USER.
    pub(super) user: String,
    /// The real name, empty until USER.
    pub(super) real_name: String,
    /// The address of the client.
    pub(super) host: String,
    /// The state of the registration; `None` once registered.
    pub(super) handshake: Option<Handshake>,
    /// The capabilities that CAP switched on.
    pub(super) capabilities: Capabilities,
    /// The channels the client is on.
    pub(super) channels: BTreeSet<Folded>,
    /// The away message, when away.
    pub(super) away: Option<String>,
    /// User mode `i`.
    pub(super) invisible: bool,
    /// User mode `w`: WALLOPS is wanted.
    pub(super) wallops: bool,
    /// User mode `o`: server operator.
    pub(super) operator: bool,
    /// How often OPER was wrong.
    pub(super) failed_opers: u8,
    /// When the connection was accepted.
    pub(super) connected_at: Duration,
    /// When the last line came, of any kind.
    pub(super) last_line_at: Duration,
    /// When the last PRIVMSG came, or registration: `317` counts idleness from here.
    pub(super) last_spoke_at: Duration,
    /// When the PING that is not answered yet was sent.
    pub(super) pinged_at: Option<Duration>,
}

impl Client {
    /// A client that has just connected.
    pub(super) fn new(host: String, now: Duration) -> Self {
        Self {
            nick: "*".to_owned(),
            user: String::new(),
            real_name: String::new(),
            host,
            handshake: Some(Handshake::default()),
            capabilities: Capabilities::default(),
            channels: BTreeSet::new(),
            away: None,
            invisible: false,
            wallops: false,
            operator: false,
            failed_opers: 0,
            connected_at: now,
            last_line_at: now,
            last_spoke_at: now,
            pinged_at: None,
        }
    }

    /// Whether registration is complete.
    pub(super) fn is_registered(&self) -> bool {
        self.handshake.is_none()
    }

    /// Whether NICK and USER have been given.
    pub(super) fn has_introduced_itself(&self) -> bool {
        self.nick != "*" && !self.user.is_empty()
    }

    /// `nick!user@host`, the source of the client's messages and the subject of ban masks.
    pub(super) fn mask(&self) -> String {
        format!("{}!{}@{}", self.nick, self.user, self.host)
    }
}
