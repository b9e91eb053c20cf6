//! WEATHER: questions for the weather bot, which is the client whose nick is `bot`.
//!
//! A client sends `WEATHER <city>`; the city is the whole rest of the line, with or without a leading colon. The bot
//! gets one line without a source, `WEATHER <nick> :<city>`: the nick has no space and the city follows the first
//! ` :`, so the line is an ordinary message with two parameters. The bot answers with PRIVMSG or NOTICE to that nick.
//! The first such message after a question answers it; of several questions of one client the oldest is answered
//! first. When there is nothing to ask, nobody to ask, or no answer in time, the asker is told in a NOTICE.

use std::time::Duration;

use super::{ClientId, Server};
use crate::{line::Line, message::Message};

/// The nick of the weather bot.
const BOT: &str = "bot";
/// The longest name of a city, in bytes: the line to the bot has to hold a nick as well.
const LONGEST_CITY: usize = 200;
/// How many questions of one client may be under way.
const MOST_QUESTIONS: usize = 16;

/// A question that has no answer yet.
#[derive(Debug)]
pub(super) struct Question {
    asker: ClientId,
    bot: ClientId,
    city: String,
    asked_at: Duration,
}

#[cfg(test)]
impl Question {
    /// Whether both sides are among these clients.
    pub(super) fn is_between(&self, clients: &std::collections::BTreeMap<ClientId, super::Client>) -> bool {
        clients.contains_key(&self.asker) && clients.contains_key(&self.bot)
    }
}

impl Server {
    /// `WEATHER city`.
    pub(super) fn weather(&mut self, id: ClientId, message: &Message) {
        let city = message.rest.strip_prefix(':').unwrap_or(&message.rest).trim();
        if city.is_empty() {
            return self.tell(id, "WEATHER needs the name of a city, for example: WEATHER New York");
        }
        if city.len() > LONGEST_CITY {
            let sentence = format!("The name of a city may have {LONGEST_CITY} bytes; this one has {}", city.len());
            return self.tell(id, &sentence);
        }
        let Some((bot, _)) = self.find(BOT) else {
            let sentence = format!("No weather bot is connected (nobody has the nick {BOT}); try again later");
            return self.tell(id, &sentence);
        };
        if self.questions.iter().filter(|question| question.asker == id).count() >= MOST_QUESTIONS {
            let sentence = format!("You have {MOST_QUESTIONS} weather questions under way; wait for the answers");
            return self.tell(id, &sentence);
        }
        let Some(asker) = self.clients.get(&id) else { return };
        let line = Line::new(&format!("WEATHER {} :{city}", asker.nick));
        self.send(bot, line);
        self.questions.push(Question { asker: id, bot, city: city.to_owned(), asked_at: self.now });
    }

    /// Notes that a message went from one client to another: it may be the answer to a question.
    pub(super) fn note_answer(&mut self, from: ClientId, to: ClientId) {
        // Questions are kept in the order in which they were asked.
        let answered = self.questions.iter().position(|question| question.bot == from && question.asker == to);
        if let Some(place) = answered {
            self.questions.remove(place);
        }
    }

    /// Tells the askers of questions that have waited too long.
    pub(super) fn give_up_questions(&mut self) {
        let (now, limit) = (self.now, self.settings.weather_timeout);
        let late = self.questions.extract_if(.., |question| now.saturating_sub(question.asked_at) >= limit);
        for question in late.collect::<Vec<_>>() {
            let sentence =
                format!("The weather bot has not answered about {} within {} s", question.city, limit.as_secs_f64());
            self.tell(question.asker, &sentence);
        }
    }

    /// Forgets the questions of a client that leaves, and tells those who asked it when it was the bot.
    pub(super) fn drop_questions_of(&mut self, id: ClientId) {
        let gone = self.questions.extract_if(.., |question| question.asker == id || question.bot == id);
        for question in gone.collect::<Vec<_>>() {
            // The asker itself is no longer known if it is the one that leaves.
            let sentence = format!("The weather bot left before it answered about {}", question.city);
            self.tell(question.asker, &sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, fixture::World};

    #[test]
    fn a_question_goes_to_the_bot_with_nick_and_whole_city() {
        for line in ["WEATHER New York", "WEATHER :New York", "weather  New York  ", "WEATHER : New York"] {
            let mut world = World::with(&["Bot", "alice"]);
            world.says("alice", line);
            assert_eq!(world.heard("Bot"), ["WEATHER alice :New York"], "{line}");
            assert_eq!(world.heard("alice"), [""; 0]);
        }
    }

    #[test]
    fn a_city_of_many_words_or_colons_is_one_parameter() {
        let mut world = World::with(&["bot", "alice"]);
        let city = "a b c d e f g h i j k l m n o :p q";
        world.says("alice", &format!("WEATHER {city}"));
        assert_eq!(world.heard("bot"), [format!("WEATHER alice :{city}")]);
    }

    #[test]
    fn the_answer_of_the_bot_arrives_and_ends_the_question() {
        for command in ["PRIVMSG", "NOTICE"] {
            let mut world = World::with(&["bot", "alice"]);
            world.says("alice", "WEATHER Berlin");
            world.says("bot", &format!("{command} alice :12 degrees"));
            world.says("bot", &format!("{command} alice :and rain"));
            world.after(11);
            assert_eq!(
                world.heard("alice"),
                [
                    format!(":bot!bot@127.0.0.1 {command} alice :12 degrees"),
                    format!(":bot!bot@127.0.0.1 {command} alice :and rain")
                ]
            );
        }
    }

    #[test]
    fn a_question_without_a_city_is_answered_with_a_notice() {
        for line in ["WEATHER", "WEATHER :", "WEATHER   "] {
            let mut world = World::with(&["bot", "alice"]);
            world.says("alice", line);
            let expected =
                ":irc.podwire.test NOTICE alice :WEATHER needs the name of a city, for example: WEATHER New York";
            assert_eq!(world.heard("alice"), [expected], "{line}");
            assert_eq!(world.heard("bot"), [""; 0]);
        }
    }

    #[test]
    fn a_question_without_a_bot_is_answered_with_a_notice() {
        let mut world = World::with(&["alice"]);
        world.says("alice", "WEATHER Berlin");
        assert!(world.heard("alice")[0].contains("NOTICE alice :No weather bot is connected"));
    }

    #[test]
    fn no_answer_within_the_limit_is_reported_once() {
        let mut world = World::with(&["bot", "alice"]);
        world.says("alice", "WEATHER Berlin");
        world.says("bot", "PRIVMSG nobody :12 degrees");
        world.after(9);
        assert_eq!(world.heard("alice"), [""; 0]);
        world.after(1);
        assert_eq!(
            world.heard("alice"),
            [":irc.podwire.test NOTICE alice :The weather bot has not answered about Berlin within 10 s"]
        );
        world.after(20);
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn a_message_of_or_to_somebody_else_answers_nothing() {
        let mut world = World::with(&["bot", "alice", "bob"]);
        world.says("alice", "WEATHER Berlin");
        world.says("bob", "PRIVMSG alice :12 degrees");
        world.says("bot", "PRIVMSG bob :12 degrees");
        world.forget();
        world.after(10);
        assert_eq!(world.codes("alice"), ["NOTICE"]);
    }

    #[test]
    fn several_questions_are_under_way_at_once() {
        let mut world = World::with(&["bot", "alice", "bob"]);
        world.says("alice", "WEATHER Berlin");
        world.says("alice", "WEATHER Paris");
        world.says("bob", "WEATHER Rome");
        assert_eq!(world.heard("bot"), ["WEATHER alice :Berlin", "WEATHER alice :Paris", "WEATHER bob :Rome"]);
        world.says("bot", "PRIVMSG alice :Berlin: rain");
        world.forget();
        world.after(10);
        assert!(world.heard("alice")[0].contains("about Paris"));
        assert!(world.heard("bob")[0].contains("about Rome"));
    }

    #[test]
    fn when_the_bot_leaves_open_questions_are_answered_with_a_notice() {
        let mut world = World::with(&["bot", "alice"]);
        world.says("alice", "WEATHER Berlin");
        let client = world.id("bot");
        world.happens(Event::Gone { client, reason: "Connection closed" });
        assert_eq!(
            world.heard("alice"),
            [":irc.podwire.test NOTICE alice :The weather bot left before it answered about Berlin"]
        );
    }

    #[test]
    fn when_the_asker_leaves_the_question_is_forgotten() {
        let mut world = World::with(&["bot", "alice"]);
        world.says("alice", "WEATHER Berlin");
        world.says("alice", "QUIT");
        world.forget();
        world.after(20);
        world.enters("alicia");
        assert_eq!(world.heard("alice"), [""; 0]);
    }

    #[test]
    fn the_seventeenth_question_under_way_and_an_over_long_city_are_refused() {
        let mut world = World::with(&["bot", "alice"]);
        world.says("alice", &format!("WEATHER {}", "x".repeat(201)));
        assert!(world.heard("alice")[0].contains("may have 200 bytes"));
        for _ in 0..17 {
            world.says("alice", &format!("WEATHER {}", "x".repeat(200)));
        }
        assert_eq!(world.heard("bot").len(), 16);
        assert!(world.heard("alice")[0].contains("16 weather questions under way"));
    }
}
