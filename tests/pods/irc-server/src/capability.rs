//! The capabilities that clients may switch on, and requests for them (IRCv3 capability negotiation). What a capability
//! changes stands in `server/`, where the lines are made.

/// A capability that this server offers. `message-tags` is not among them: tags of clients are not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    /// `AWAY` of everybody on a common channel (IRCv3 `away-notify`).
    AwayNotify,
    /// A copy of one's own PRIVMSG and NOTICE (IRCv3 `echo-message`).
    EchoMessage,
    /// Account and real name in `JOIN` (IRCv3 `extended-join`).
    ExtendedJoin,
    /// Every sign before a nick, not the highest only (IRCv3 `multi-prefix`).
    MultiPrefix,
    /// The tag `time` on every line (IRCv3 `server-time`).
    ServerTime,
}

/// Every capability with its name, in the order of the alphabet.
const ALL: [(Capability, &str); 5] = [
    (Capability::AwayNotify, "away-notify"),
    (Capability::EchoMessage, "echo-message"),
    (Capability::ExtendedJoin, "extended-join"),
    (Capability::MultiPrefix, "multi-prefix"),
    (Capability::ServerTime, "server-time"),
];

/// The capabilities that one client has switched on: never more than there are, however often it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(u8);

impl Capabilities {
    /// All that are offered.
    pub(crate) fn offered() -> Self {
        Self(ALL.iter().fold(0, |bits, &(capability, _)| bits | bit(capability)))
    }

    /// Whether the capability is on.
    pub(crate) fn has(self, capability: Capability) -> bool {
        self.0 & bit(capability) != 0
    }

    /// What a request makes of these: names to switch on, with a minus before to switch off. `None` when one of them is
    /// not offered: a request is accepted as a whole or not at all (IRCv3 capability negotiation, "CAP REQ").
    pub(crate) fn after(self, request: &str) -> Option<Self> {
        request.split(' ').filter(|word| !word.is_empty()).try_fold(self, |Self(bits), word| {
            let (name, off) = word.strip_prefix('-').map_or((word, false), |name| (name, true));
            let &(capability, _) = ALL.iter().find(|(_, offered)| *offered == name)?;
            Some(Self(if off { bits & !bit(capability) } else { bits | bit(capability) }))
        })
    }

    /// The names with spaces between, as `CAP LS` and `CAP LIST` give them.
    pub(crate) fn names(self) -> String {
        let on: Vec<&str> =
            ALL.iter().filter(|&&(capability, _)| self.has(capability)).map(|&(_, name)| name).collect();
        on.join(" ")
    }
}

fn bit(capability: Capability) -> u8 {
    1 << capability as u8
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Capability};

    #[test]
    fn a_request_switches_on_and_off() {
        let on = Capabilities::default().after("server-time  echo-message").unwrap();
        assert!(on.has(Capability::ServerTime) && on.has(Capability::EchoMessage) && !on.has(Capability::MultiPrefix));
        let off = on.after("-server-time multi-prefix").unwrap();
        assert_eq!(off.names(), "echo-message multi-prefix");
        assert_eq!(off.after(""), Some(off));
    }

    #[test]
    fn a_request_with_a_name_that_is_not_offered_changes_nothing() {
        for request in ["sasl", "multi-prefix sasl", "-sasl", "message-tags", "=multi-prefix", "Multi-Prefix", "-"] {
            assert_eq!(Capabilities::default().after(request), None, "{request}");
        }
    }

    #[test]
    fn all_that_is_offered_can_be_asked_for_by_its_name() {
        let names = Capabilities::offered().names();
        assert_eq!(names, "away-notify echo-message extended-join multi-prefix server-time");
        assert_eq!(Capabilities::default().after(&names), Some(Capabilities::offered()));
    }
}
