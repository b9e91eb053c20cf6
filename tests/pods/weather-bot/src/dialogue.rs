//! What each line of the server asks of the bot. Pure: a line goes in, a reaction comes out.

use crate::ending::Ending;
use crate::line::Line;
use crate::outgoing::{pong, privmsg};
use crate::question::{Question, QuestionError};

/// What the session has to do because of a line.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Nothing: the line is not for this bot.
    Nothing,
    /// The bot is registered.
    Registered,
    /// This line is to be sent.
    Send(String),
    /// This question is to be asked.
    Ask(Question),
    /// This is to be written to the journal.
    Note(String),
    /// The session is over.
    End(Ending),
}

/// Reads one line without its line end. The numerics are those of RFC 2812 section 5.
pub(crate) fn react(text: &str) -> Reaction {
    let Some(line) = Line::parse(text) else { return Reaction::Nothing };
    match line.command.to_ascii_uppercase().as_str() {
        "PING" => Reaction::Send(pong(line.parameters.first().copied().unwrap_or(""))),
        "WEATHER" => weather(&line),
        "ERROR" => Reaction::End(Ending::ServerError(line.text().to_owned())),
        "001" => Reaction::Registered,
        "464" => Reaction::End(Ending::WrongPassword),
        // In use, in collision, and held back for a while after a netsplit.
        "433" | "436" | "437" => Reaction::End(Ending::NickTaken),
        // Bad nickname, banned, restricted: no later line can mend these.
        numeric @ ("431" | "432" | "463" | "465" | "484") => {
            Reaction::End(Ending::RegistrationRefused { numeric: numeric.to_owned(), text: line.text().to_owned() })
        }
        // No message of the day is no fault.
        "422" => Reaction::Nothing,
        numeric if numeric.len() == 3 && numeric.starts_with(['4', '5']) => {
            Reaction::Note(format!("the server answered {numeric}: {}", line.parameters.join(" ")))
        }
        _ => Reaction::Nothing,
    }
}

fn weather(line: &Line<'_>) -> Reaction {
    match Question::from_line(line) {
        Ok(question) => Reaction::Ask(question),
        Err(QuestionError::NoCity { nick }) => {
            Reaction::Send(privmsg(&nick, "The question names no city, ask again with one, as in: Paris."))
        }
        Err(QuestionError::NoNick) => Reaction::Note("a WEATHER line without a nickname is passed over".to_owned()),
        Err(QuestionError::BadNick) => {
            Reaction::Note("a WEATHER line is passed over, its nickname names no single person".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> String {
        match react(text) {
            Reaction::Send(line) => line,
            other => panic!("{text:?} gives {other:?}"),
        }
    }

    #[test]
    fn a_ping_is_answered_with_its_own_token() {
        assert_eq!(sent("PING :irc example"), "PONG :irc example\r\n");
        assert_eq!(sent(":irc.example ping 12345"), "PONG :12345\r\n");
        assert_eq!(sent("PING"), "PONG :\r\n");
    }

    #[test]
    fn a_question_is_asked_and_one_without_a_city_is_answered_at_once() {
        let Reaction::Ask(question) = react(":irc.example WEATHER alice :New York") else { panic!("no question") };
        assert_eq!((question.nick.as_str(), question.city.as_str()), ("alice", "New York"));
        assert!(sent("WEATHER alice :").starts_with("PRIVMSG alice :The question names no city"));
    }

    #[test]
    fn a_question_that_nobody_could_be_answered_is_noted() {
        for text in ["WEATHER", "WEATHER #podwire :Paris"] {
            assert!(matches!(react(text), Reaction::Note(_)), "{text}");
        }
    }

    #[test]
    fn each_refusal_of_the_registration_has_its_own_ending() {
        assert!(matches!(react(":s 464 * :Password incorrect"), Reaction::End(Ending::WrongPassword)));
        for numeric in ["433", "436", "437"] {
            assert!(matches!(react(&format!(":s {numeric} * bot :Taken")), Reaction::End(Ending::NickTaken)));
        }
        for numeric in ["431", "432", "463", "465", "484"] {
            let reaction = react(&format!(":s {numeric} * bot :No"));
            let Reaction::End(Ending::RegistrationRefused { numeric: named, text }) = reaction else {
                panic!("{numeric}")
            };
            assert_eq!((named.as_str(), text.as_str()), (numeric, "No"));
        }
        let Reaction::End(Ending::ServerError(text)) = react("ERROR :Closing link") else { panic!("no end") };
        assert_eq!(text, "Closing link");
    }

    #[test]
    fn a_welcome_registers_and_an_error_numeric_is_noted() {
        assert!(matches!(react(":s 001 bot :Welcome"), Reaction::Registered));
        let Reaction::Note(note) = react(":s 401 bot alice :No such nick") else { panic!("no note") };
        assert_eq!(note, "the server answered 401: bot alice No such nick");
    }

    #[test]
    fn talk_that_is_not_for_the_bot_is_passed_over() {
        for text in ["", ":alice!a@h PRIVMSG bot :WEATHER alice :Paris", ":s 372 bot :- text", ":s 422 bot :No file"] {
            assert!(matches!(react(text), Reaction::Nothing), "{text}");
        }
    }
}
