//! Hostile input for the state machine: long runs of lines that are half plausible and half garbage, after which the
//! state has to hold together. The runs are the same every time.

use super::{ClientId, Effect, Event, Server, fixture::World};
use crate::{casemap::Folded, text};

/// A linear congruential generator: enough to mix words, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).unwrap()
    }

    fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.roll(words.len())]
    }
}

const COMMANDS: [&str; 35] = [
    "PASS", "NICK", "USER", "CAP", "PING", "PONG", "JOIN", "JOIN", "JOIN", "PART", "KICK", "INVITE", "TOPIC", "MODE",
    "MODE", "MODE", "NAMES", "LIST", "WHO", "WHOIS", "PRIVMSG", "NOTICE", "WEATHER", "AWAY", "ISON", "USERHOST",
    "\u{1}x", "WHOWAS", "OPER", "KILL", "WALLOPS", "LINKS", "INFO", "ADMIN", "CAP",
];

const WORDS: [&str; 43] = [
    "#a",
    "#b",
    "#A,#b,#c",
    "#",
    "##",
    "0",
    "c0",
    "c1",
    "C2",
    "c3,c4,c5,c6,c7",
    "bot",
    "secret",
    "*",
    "?*!*@*",
    "+o",
    "-o",
    "+imntklovb",
    "-imntklovb",
    "+bbbbbbbbbbbbb",
    "b",
    "+k",
    "+l",
    "1",
    "-1",
    "99999999999999999999",
    ":",
    ": ",
    ":x y z",
    "::::",
    ",,,,",
    "@t=1",
    "\u{fffd}\u{fffd}",
    "\u{1}ACTION\u{1}",
    "é",
    "!@",
    "a!b@c",
    "LS",
    "END",
    "REQ",
    ":server-time echo-message",
    ":-server-time away-notify extended-join multi-prefix",
    "root operator-secret",
    ":\u{2}\u{3}4,5",
];

fn line(dice: &mut Dice) -> String {
    let mut line = dice.pick(&COMMANDS).to_owned();
    for _ in 0..dice.roll(6) {
        line.push(' ');
        line.push_str(dice.pick(&WORDS));
    }
    if dice.roll(20) == 0 {
        line.push_str(&"é".repeat(dice.roll(250)));
    }
    text::cut(&line, 510).to_owned()
}

fn assert_holds_together(server: &Server) {
    for (key, channel) in &server.channels {
        assert_eq!(*key, Folded::new(&channel.name));
        assert!(!channel.members.is_empty(), "{key:?} has no members");
        for member in channel.members.keys() {
            assert!(server.clients[member].channels.contains(key), "{member:?} does not know that it is on {key:?}");
        }
    }
    for (id, client) in &server.clients {
        assert!(client.channels.iter().all(|key| server.channels[key].members.contains_key(id)));
        assert_eq!(client.is_registered(), server.nicks.get(&Folded::new(&client.nick)) == Some(id), "{client:?}");
    }
    assert!(server.nicks.values().all(|id| server.clients.contains_key(id)));
    assert!(server.questions.iter().all(|question| question.is_between(&server.clients)));
}

#[test]
fn the_state_holds_together_under_garbage_and_every_line_is_one_line() {
    let mut dice = Dice(20_240_229);
    let mut world = World::with_operator(&["bot", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"]);
    let mut refused = 0;
    let mut present: Vec<ClientId> = (1..=9).map(ClientId).collect();
    for step in 0..12_000_u64 {
        let seat = dice.roll(present.len());
        let client = present[seat];
        let event = match dice.roll(400) {
            0 => Event::LineTooLong { client },
            1 => Event::Tick,
            2 => {
                let newcomer = format!("d{step}");
                world.enters(&newcomer);
                present[seat] = world.id(&newcomer);
                Event::Gone { client, reason: "Connection closed" }
            }
            _ => Event::Line { client, text: text::clean(line(&mut dice).as_bytes()) },
        };
        for effect in world.happens(event) {
            let Effect::Send { line, .. } = effect else { continue };
            let bytes = line.as_bytes();
            let tag = if bytes.starts_with(b"@time=") { "@time=2023-11-14T22:13:20.000Z ".len() } else { 0 };
            assert!(bytes.len() <= 512 + tag && bytes.ends_with(b"\r\n"), "{line:?}");
            let breaks = bytes.iter().filter(|&&byte| matches!(byte, b'\r' | b'\n' | 0)).count();
            assert_eq!(breaks, 2, "{line:?}");
            refused += usize::from(line.content().contains(" 4"));
        }
        if step % 100 == 0 {
            assert_holds_together(world.server());
            world.forget();
        }
    }
    // Garbage that never reached a refusal would have proved nothing.
    assert!(refused > 1000, "{refused} refusals");
}
