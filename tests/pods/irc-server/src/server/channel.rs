//! One channel: members, modes, bans, topic, and who may enter and speak. Commands and replies are not known here.

use std::collections::{BTreeMap, VecDeque};

use super::ClientId;
use crate::{mask, refusal, refusal::Refusal};

/// How many invitations a channel remembers; the oldest is forgotten first.
const MOST_INVITATIONS: usize = 64;

/// What a member may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rank {
    /// Channel operator, `@`.
    pub(super) operator: bool,
    /// Voice, `+`.
    pub(super) voice: bool,
}

impl Rank {
    /// The sign of the highest rank before a nick.
    pub(super) fn sign(self) -> &'static str {
        match (self.operator, self.voice) {
            (true, _) => "@",
            (false, true) => "+",
            (false, false) => "",
        }
    }

    /// The signs of all ranks before a nick, the highest first (IRCv3 `multi-prefix`).
    pub(super) fn signs(self) -> &'static str {
        if self.operator && self.voice { "@+" } else { self.sign() }
    }
}

/// A topic, who set it, and when.
#[derive(Debug)]
pub(super) struct Topic {
    /// The text, never empty.
    pub(super) text: String,
    /// The mask of the setter.
    pub(super) setter: String,
    /// The Unix time in seconds.
    pub(super) set_at: u64,
}

/// A ban mask, who set it, and when.
#[derive(Debug)]
pub(super) struct Ban {
    /// The completed mask.
    pub(super) mask: String,
    /// The mask of the setter.
    pub(super) setter: String,
    /// The Unix time in seconds.
    pub(super) set_at: u64,
}

/// One channel. It exists as long as it has members.
#[derive(Debug)]
pub(super) struct Channel {
    /// The name as its first member wrote it.
    pub(super) name: String,
    /// When it was made, as Unix time in seconds.
    pub(super) created_at: u64,
    /// The members and their ranks.
    pub(super) members: BTreeMap<ClientId, Rank>,
    /// The topic, when one is set.
    pub(super) topic: Option<Topic>,
    /// Mode `b`.
    pub(super) bans: Vec<Ban>,
    /// The modes without parameter that are set: letters of `imnst` in this order.
    flags: Vec<char>,
    /// Mode `k`.
    pub(super) key: Option<String>,
    /// Mode `l`.
    pub(super) limit: Option<usize>,
    /// Who was invited and has not joined. Numbers of clients are never used twice, so one that has left is harmless.
    invited: VecDeque<ClientId>,
}

impl Channel {
    /// An empty channel with the modes `nt`.
    pub(super) fn new(name: &str, created_at: u64) -> Self {
        Self {
            name: name.to_owned(),
            created_at,
            members: BTreeMap::new(),
            topic: None,
            bans: Vec::new(),
            flags: vec!['n', 't'],
            key: None,
            limit: None,
            invited: VecDeque::new(),
        }
    }

    /// Whether the mode `letter` without parameter is set.
    pub(super) fn has(&self, letter: char) -> bool {
        self.flags.contains(&letter)
    }

    /// Sets or takes away a mode without parameter; gives whether that changed anything.
    pub(super) fn change_flag(&mut self, letter: char, set: bool) -> bool {
        if self.has(letter) == set {
            return false;
        }
        if set {
            self.flags.push(letter);
            self.flags.sort_unstable();
        } else {
            self.flags.retain(|&flag| flag != letter);
        }
        true
    }

    /// Whether queries of the client are answered as if there were no such channel: mode `s` (RFC 2811 section 4.2.6).
    pub(super) fn is_hidden_from(&self, id: ClientId) -> bool {
        self.has('s') && !self.members.contains_key(&id)
    }

    /// Whether the client is a channel operator here.
    pub(super) fn is_operator(&self, id: ClientId) -> bool {
        self.members.get(&id).is_some_and(|rank| rank.operator)
    }

    /// Whether a ban fits the mask of a client.
    pub(super) fn bans(&self, subject: &str) -> bool {
        self.bans.iter().any(|ban| mask::matches(&ban.mask, subject))
    }

    /// Remembers an invitation.
    pub(super) fn invite(&mut self, id: ClientId) {
        self.invited.retain(|&invited| invited != id);
        self.invited.push_back(id);
        if self.invited.len() > MOST_INVITATIONS {
            self.invited.pop_front();
        }
    }

    /// Admits a client whose mask is `subject` and who brings `key`, or says why not. An invitation opens the modes `i`
    /// and `l` and nothing else, and is used up by a success.
    pub(super) fn admit(&mut self, id: ClientId, subject: &str, key: Option<&str>) -> Result<(), Refusal> {
        if self.bans(subject) {
            return Err(refusal::BANNED);
        }
        let invited = self.invited.contains(&id);
        if self.has('i') && !invited {
            return Err(refusal::INVITE_ONLY);
        }
        if self.key.is_some() && self.key.as_deref() != key {
            return Err(refusal::BAD_KEY);
        }
        if !invited && self.limit.is_some_and(|limit| self.members.len() >= limit) {
            return Err(refusal::CHANNEL_IS_FULL);
        }
        self.invited.retain(|&invited| invited != id);
        // Who makes a channel keeps it (RFC 2811 section 2.3).
        let rank = Rank { operator: self.members.is_empty(), voice: false };
        self.members.insert(id, rank);
        Ok(())
    }

    /// Whether a client whose mask is `subject` may send to the channel: modes `n`, `m`, `b` and the ranks.
    pub(super) fn lets_speak(&self, id: ClientId, subject: &str) -> bool {
        match self.members.get(&id) {
            Some(rank) if rank.operator || rank.voice => true,
            Some(_) => !self.has('m') && !self.bans(subject),
            None => !self.has('n') && !self.has('m') && !self.bans(subject),
        }
    }

    /// The modes as `324` gives them; the key itself only when `show_key`.
    pub(super) fn mode_string(&self, show_key: bool) -> String {
        let mut letters: String = self.flags.iter().collect();
        let mut parameters = String::new();
        if let Some(key) = &self.key {
            letters.push('k');
            parameters.push_str(if show_key { " " } else { " *" });
            parameters.push_str(if show_key { key } else { "" });
        }
        if let Some(limit) = self.limit {
            letters.push('l');
            parameters.push_str(&format!(" {limit}"));
        }
        format!("+{letters}{parameters}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, ClientId, MOST_INVITATIONS};

    const SUBJECT: &str = "bob!b@127.0.0.1";

    #[test]
    fn flags_stay_in_order_and_tell_whether_they_changed() {
        let mut channel = Channel::new("#a", 0);
        assert!(channel.change_flag('i', true) && !channel.change_flag('i', true));
        assert!(channel.change_flag('n', false) && !channel.change_flag('n', false));
        assert_eq!(channel.mode_string(true), "+it");
    }

    #[test]
    fn the_key_is_shown_only_to_those_who_may_see_it() {
        let mut channel = Channel::new("#a", 0);
        channel.key = Some("secret".to_owned());
        channel.limit = Some(7);
        assert_eq!(channel.mode_string(true), "+ntkl secret 7");
        assert_eq!(channel.mode_string(false), "+ntkl * 7");
    }

    #[test]
    fn invitations_are_remembered_up_to_a_number() {
        let mut channel = Channel::new("#a", 0);
        channel.change_flag('i', true);
        for number in 0..=MOST_INVITATIONS as u64 {
            channel.invite(ClientId(number));
        }
        assert!(channel.admit(ClientId(0), SUBJECT, None).is_err());
        assert!(channel.admit(ClientId(1), SUBJECT, None).is_ok());
    }

    #[test]
    fn an_invitation_is_used_up() {
        let mut channel = Channel::new("#a", 0);
        channel.change_flag('i', true);
        channel.invite(ClientId(1));
        assert!(channel.admit(ClientId(1), SUBJECT, None).is_ok());
        channel.members.clear();
        assert!(channel.admit(ClientId(1), SUBJECT, None).is_err());
    }
}
