//! WHOWAS: who had a nick before (RFC 2812 section 3.6.3), and the history that it reads.

use std::{collections::VecDeque, time::Duration};

use super::{Client, ClientId, Server};
use crate::{
    casemap::Folded,
    isupport::{SERVER_NAME, TARGETS_PER_COMMAND},
    message::Message,
    refusal, reply, text, timestamp,
};

/// How many nicks that were given up are remembered; the oldest is forgotten first. It is the same for all clients
/// together: who gives up nicks by the hundred shortens the history and nothing else.
const MOST_REMEMBERED: usize = 256;
/// Room for the nicks that are repeated in a `369`, in bytes.
const ROOM: usize = 400;

/// Who had a nick.
#[derive(Debug)]
struct Holder {
    nick: String,
    user: String,
    host: String,
    real_name: String,
    /// When the nick was given up, as `timestamp::utc` writes it.
    until: String,
}

/// The nicks that were given up, the newest last.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Holder>);

impl History {
    /// Remembers that the client gives up its nick; `until` is the time since 1970.
    pub(super) fn remember(&mut self, client: &Client, until: Duration) {
        let Client { nick, user, host, real_name, .. } = client;
        let [nick, user, host, real_name] = [nick, user, host, real_name].map(Clone::clone);
        if self.0.len() >= MOST_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Holder { nick, user, host, real_name, until: timestamp::utc(until) });
    }

    /// Those who had one of the nicks, the newest first, at most `most` of each.
    fn holders<'h>(&'h self, nicks: &[Folded], most: usize) -> Vec<&'h Holder> {
        let mut counts = vec![0; nicks.len()];
        let mut found = Vec::new();
        for holder in self.0.iter().rev() {
            let folded = Folded::new(&holder.nick);
            let Some(place) = nicks.iter().position(|nick| *nick == folded) else { continue };
            if counts[place] < most {
                counts[place] += 1;
                found.push(holder);
            }
        }
        found
    }
}

impl Server {
    /// `WHOWAS nick,… [count [server]]`; a count that is not positive means all.
    pub(super) fn whowas(&mut self, id: ClientId, message: &Message) {
        let Some(asked) = message.parameter(0) else {
            return self.refuse(id, refusal::NO_NICK_GIVEN, &[]);
        };
        if !self.is_for_this_server(id, message.parameter(2)) {
            return;
        }
        let most = match message.parameter(1).and_then(|count| count.parse::<usize>().ok()) {
            None | Some(0) => MOST_REMEMBERED,
            Some(count) => count,
        };
        let nicks: Vec<&str> = asked.split(',').filter(|nick| !nick.is_empty()).take(TARGETS_PER_COMMAND).collect();
        let folded: Vec<Folded> = nicks.iter().map(|nick| Folded::new(nick)).collect();
        let holders = self.history.holders(&folded, most);
        let unknown: Vec<&&str> = nicks
            .iter()
            .zip(&folded)
            .filter(|(_, nick)| !holders.iter().any(|holder| Folded::new(&holder.nick) == **nick))
            .map(|(written, _)| written)
            .collect();
        let replies: Vec<(&str, String)> = holders.into_iter().flat_map(replies).collect();
        for (code, tail) in replies {
            self.reply(id, code, &tail);
        }
        for nick in unknown {
            self.refuse(id, refusal::WAS_NO_SUCH_NICK, &[nick]);
        }
        self.reply(id, reply::ENDOFWHOWAS, &format!("{} :End of WHOWAS", text::cut(asked, ROOM)));
    }
}

fn replies(holder: &Holder) -> [(&'static str, String); 2] {
    let Holder { nick, user, host, real_name, until } = holder;
    [
        (reply::WHOWASUSER, format!("{nick} {user} {host} * :{real_name}")),
        (reply::WHOISSERVER, format!("{nick} {SERVER_NAME} :{until}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;
    use super::MOST_REMEMBERED;

    /// Bob, who has heard nothing yet, in a world that Alice has left twice, a minute apart.
    fn after_alice() -> World {
        let mut world = World::with(&["bob", "alice"]);
        world.says("alice", "QUIT");
        world.after(60);
        world.enters("alice");
        world.says("alice", "QUIT");
        world.forget();
        world
    }

    #[test]
    fn those_who_left_are_told_the_newest_first() {
        let mut world = after_alice();
        world.says("bob", "WHOWAS ALICE");
        assert_eq!(
            world.heard("bob"),
            [
                ":irc.podwire.test 314 bob alice alice 127.0.0.1 * :alice of the test",
                ":irc.podwire.test 312 bob alice irc.podwire.test :2023-11-14T22:14:20.000Z",
                ":irc.podwire.test 314 bob alice alice 127.0.0.1 * :alice of the test",
                ":irc.podwire.test 312 bob alice irc.podwire.test :2023-11-14T22:13:20.000Z",
                ":irc.podwire.test 369 bob ALICE :End of WHOWAS",
            ]
        );
    }

    #[test]
    fn a_count_limits_and_one_that_is_not_positive_does_not() {
        let mut world = after_alice();
        for (count, found) in
            [("1", 1), ("2", 2), ("7", 2), ("0", 2), ("-1", 2), ("99999999999999999999999", 2), ("x", 2)]
        {
            world.says("bob", &format!("WHOWAS alice {count}"));
            assert_eq!(world.codes("bob").iter().filter(|code| *code == "314").count(), found, "{count}");
        }
    }

    #[test]
    fn a_nick_that_was_changed_is_remembered_and_a_change_of_case_is_none() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("alice", "NICK Alice");
        world.says("bob", "WHOWAS alice");
        assert_eq!(world.codes("bob"), ["406", "369"]);
        world.says("alice", "NICK carol");
        world.says("bob", "WHOWAS alice");
        assert_eq!(world.codes("bob"), ["314", "312", "369"]);
    }

    #[test]
    fn whowas_errors_name_their_reason() {
        let mut world = World::with(&["alice"]);
        world.connects("x");
        world.says("x", "NICK early");
        world.says("x", "QUIT");
        for (line, codes) in [
            ("WHOWAS", vec!["431"]),
            ("WHOWAS bob", vec!["406", "369"]),
            ("WHOWAS early", vec!["406", "369"]),
            ("WHOWAS bob,eve", vec!["406", "406", "369"]),
            ("WHOWAS bob 1 irc.elsewhere.test", vec!["402"]),
        ] {
            world.says("alice", line);
            assert_eq!(world.codes("alice"), codes, "{line}");
        }
    }

    #[test]
    fn the_history_has_an_end() {
        let mut world = World::with(&["alice", "bob"]);
        world.says("bob", "NICK first");
        for number in 0..MOST_REMEMBERED {
            world.says("bob", &format!("NICK other{number}"));
        }
        assert_eq!(world.server().history.0.len(), MOST_REMEMBERED);
        world.says("alice", "WHOWAS bob");
        assert_eq!(world.codes("alice"), ["406", "369"]);
        world.says("alice", "WHOWAS first,other0,other1,other2,other3,other4");
        assert_eq!(world.codes("alice").iter().filter(|code| *code == "314").count(), 4);
    }
}
