//! A question that the IRC server passes on: `WEATHER <nick> :<city>`. Pure.

use crate::line::Line;

/// The longest nickname in bytes that an answer is sent to; longer ones would leave no room for the answer.
const NICK_LIMIT: usize = 64;

/// Who asks for which place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The nickname that the answer goes to.
    pub(crate) nick: String,
    /// The place as the asker wrote it; not blank.
    pub(crate) city: String,
}

/// Why a `WEATHER` line is no question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QuestionError {
    /// There is no nickname that could be answered.
    NoNick,
    /// The nickname cannot stand in `PRIVMSG`: a channel, a list, or too long.
    BadNick,
    /// There is a nickname, but no place.
    NoCity {
        /// The nickname that can be told so.
        nick: String,
    },
}

impl Question {
    /// Reads the parameters of a `WEATHER` line. The city is all that follows the nickname, so several words without
    /// the colon are one city too.
    pub(crate) fn from_line(line: &Line<'_>) -> Result<Self, QuestionError> {
        let (nick, city) = line.parameters.split_first().ok_or(QuestionError::NoNick)?;
        if nick.is_empty() {
            return Err(QuestionError::NoNick);
        }
        // The answer goes to one person. A comma would make a list, the marks of channels a crowd (RFC 2812 sections
        // 1.3 and 3.3.1).
        let one_person = nick.len() <= NICK_LIMIT
            && !nick.starts_with(['#', '&', '+', '!', '$', ':'])
            && !nick.contains(|character: char| matches!(character, ',' | ' ') || character.is_control());
        if !one_person {
            return Err(QuestionError::BadNick);
        }
        let nick = (*nick).to_owned();
        let city = city.join(" ");
        if city.trim().is_empty() { Err(QuestionError::NoCity { nick }) } else { Ok(Self { nick, city }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(text: &str) -> Result<Question, QuestionError> {
        Question::from_line(&Line::parse(text).unwrap())
    }

    #[test]
    fn the_city_is_all_that_follows_the_nickname() {
        for (text, city) in [
            ("WEATHER alice Paris", "Paris"),
            ("WEATHER alice :Paris", "Paris"),
            (":irc.example WEATHER alice :São Paulo, #1: a&b", "São Paulo, #1: a&b"),
            ("WEATHER alice New York", "New York"),
        ] {
            assert_eq!(question(text), Ok(Question { nick: "alice".to_owned(), city: city.to_owned() }), "{text}");
        }
    }

    #[test]
    fn a_question_without_a_city_can_still_be_answered() {
        for text in ["WEATHER alice", "WEATHER alice :", "WEATHER alice :  "] {
            assert_eq!(question(text), Err(QuestionError::NoCity { nick: "alice".to_owned() }), "{text}");
        }
    }

    #[test]
    fn only_a_single_person_is_answered() {
        assert_eq!(question("WEATHER"), Err(QuestionError::NoNick));
        assert_eq!(question("WEATHER :"), Err(QuestionError::NoNick));
        assert_eq!(question("WEATHER :alice bob"), Err(QuestionError::BadNick));
        for nick in ["#podwire", "alice,bob", "a\u{1}b", "+x", &"n".repeat(65)] {
            assert_eq!(question(&format!("WEATHER {nick} :Paris")), Err(QuestionError::BadNick), "{nick}");
        }
    }
}
