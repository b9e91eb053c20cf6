//! `irc-user HOST:PORT PASSWORD CITY`: a user of IRC for checks in pods, whose image has no shell: asks the bot for the weather
//! once, prints the answer, and says by its exit code whether it was one.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

const EXIT: &str = "\
The exit code is 0 when the bot has answered with the weather, 1 when it has not, or nobody has in time, 2 when the command \
line is wrong.";

/// Asks the weather bot for the weather of a city, over an IRC server.
#[derive(Parser)]
#[command(name = "irc-user", version, after_help = EXIT)]
struct CommandLine {
    /// The IRC server, as in irc-server:6667
    #[arg(value_name = "HOST:PORT")]
    server: String,

    /// The password of the IRC server
    #[arg(value_name = "PASSWORD")]
    password: String,

    /// The city
    #[arg(value_name = "CITY")]
    city: String,

    /// The nick to ask under
    #[arg(long, default_value = "ada")]
    nick: String,

    /// Seconds that all of it may take
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    within: u64,
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match ask(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // When standard error is closed there is still the exit code.
            let _ = writeln!(io::stderr().lock(), "irc-user: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A conversation with an end.
struct Conversation {
    stream: BufReader<TcpStream>,
    deadline: Instant,
}

fn ask(wish: &CommandLine) -> Result<(), String> {
    let (deadline, CommandLine { server, password, nick, city, .. }) =
        (Instant::now() + Duration::from_secs(wish.within), wish);
    let mut conversation = Conversation { stream: BufReader::new(connect(server, deadline)?), deadline };
    conversation.say(&format!("PASS {password}\r\nNICK {nick}\r\nUSER {nick} 0 * :{nick}"))?;
    conversation.hear("a welcome", |line| (word(line, 1) == Some("001")).then_some(()))?;
    conversation.say(&format!("WEATHER {city}"))?;
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        let told = |line: &str| ["PRIVMSG", "NOTICE"].contains(&word(line, 1)?).then(|| text(line).to_owned());
        let line = conversation.hear("the bot's answer", told)?;
        // When standard output is closed there is still the exit code.
        let _ = writeln!(io::stdout().lock(), "{line}");
        if answer.is_empty() && !is_rule(&line) {
            return Err(format!("no weather for {city}"));
        }
        answer.push(line);
    }
    Ok(())
}

/// A connection to whichever address of the server answers first.
fn connect(server: &str, deadline: Instant) -> Result<TcpStream, String> {
    let mut why = format!("{server} has no address");
    for address in server.to_socket_addrs().map_err(|error| format!("{server}: {error}"))? {
        match TcpStream::connect_timeout(&address, left(deadline)) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("connect to {server} at {address}: {error}"),
        }
    }
    Err(why)
}

impl Conversation {
    fn say(&mut self, lines: &str) -> Result<(), String> {
        let sent = self.stream.get_mut().write_all(format!("{lines}\r\n").as_bytes());
        sent.map_err(|error| format!("the server has gone: {error}"))
    }

    /// Waits for a line that is what is waited for. Pings are answered meanwhile.
    fn hear<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        loop {
            let limited = self.stream.get_ref().set_read_timeout(Some(left(self.deadline)));
            let mut line = String::new();
            let read = limited.and_then(|()| self.stream.read_line(&mut line));
            match read.map_err(|error| format!("wait for {what}: {error}"))? {
                0 => return Err(format!("wait for {what}: the server has closed the connection")),
                _ if Instant::now() > self.deadline => return Err(format!("wait for {what}: it did not come in time")),
                _ => {}
            }
            let line = line.trim_end();
            if let Some(token) = line.strip_prefix("PING ") {
                self.say(&format!("PONG {token}"))?;
            } else if word(line, 0) == Some("ERROR") || word(line, 1).is_some_and(is_refusal) {
                return Err(format!("wait for {what}: {line}"));
            } else if let Some(heard) = wanted(line) {
                return Ok(heard);
            }
        }
    }
}

/// What is left of the time; a little, when nothing is, for no time at all would be for ever.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn word(line: &str, index: usize) -> Option<&str> {
    line.split(' ').nth(index)
}

/// The text of a message: what is behind the second colon, the first being that of its sender (RFC 2812, section 2.3).
fn text(line: &str) -> &str {
    line.split_once(" :").map_or("", |(_, text)| text)
}

/// Numerics from 400 on are errors (RFC 2812, section 5.2); that there is no message of the day (422) is none.
fn is_refusal(word: &str) -> bool {
    word.len() == 3 && word != "422" && word.parse().is_ok_and(|number: u16| number >= 400)
}

fn is_rule(line: &str) -> bool {
    line.len() > 3 && line.bytes().all(|byte| byte == b'-')
}

/// Whether it begins and ends with a rule.
fn is_whole(answer: &[String]) -> bool {
    answer.len() > 1 && answer.last().is_some_and(|line| is_rule(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_second_rule_has_come() {
        let lines = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(!is_whole(&lines(&["------"])) && !is_whole(&lines(&["------", "Location: Paris"])));
        assert!(is_whole(&lines(&["------", "Location: Paris", "------"])));
        assert_eq!(text(":bot!bot@10.244.2.2 PRIVMSG ada :Wind: 3 kph"), "Wind: 3 kph");
        assert!(is_refusal("464") && !is_refusal("422") && !is_refusal("001") && !is_refusal("PRIVMSG"));
    }
}
