//! A user of IRC, as far as a conversation needs one: says lines, waits for lines, and keeps both.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::lab::host::Host;

/// How long an answer may take: longer than the server gives the bot.
const PATIENCE: Duration = Duration::from_secs(12);

/// A connected user.
#[derive(Debug)]
pub struct User {
    /// The nick.
    pub nick: String,
    /// What was said and heard since the registration, in order: `>` before what this user said, `<` before what came.
    pub transcript: Vec<String>,
    stream: BufReader<TcpStream>,
}

impl User {
    /// Connects from a host, registers, and waits for the welcome.
    ///
    /// # Errors
    /// A sentence that says how far it came.
    pub fn connect(from: &Host, server: SocketAddr, password: &str, nick: &str) -> Result<Self, String> {
        let connect = || -> io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = from.enter(connect).map_err(|error| format!("{nick} to {server} from {}: {error}", from.name))?;
        let mut user = Self { nick: nick.into(), transcript: Vec::new(), stream: BufReader::new(stream) };
        user.say(&format!("PASS {password}"))?;
        user.say(&format!("NICK {nick}"))?;
        user.say(&format!("USER {nick} 0 * :{nick}"))?;
        user.hear(" 001 ")?;
        // The end of the message of the day, or that there is none.
        user.hear_any(&[" 376 ", " 422 "])?;
        user.transcript.clear();
        Ok(user)
    }

    /// Says a line.
    ///
    /// # Errors
    /// When the server has gone.
    pub fn say(&mut self, line: &str) -> Result<(), String> {
        self.transcript.push(format!("> {line}"));
        let sent = self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes());
        sent.map_err(|error| format!("{} says {line:?}: {error}", self.nick))
    }

    /// Waits for a line that contains `text`; the line. Pings are answered meanwhile.
    ///
    /// # Errors
    /// When no such line comes in time, with what came instead.
    pub fn hear(&mut self, text: &str) -> Result<String, String> {
        self.hear_any(&[text])
    }

    fn hear_any(&mut self, texts: &[&str]) -> Result<String, String> {
        let text = texts.join(" or ");
        let text = text.as_str();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut line = Vec::new();
            let read = self.stream.read_until(b'\n', &mut line);
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.missed(text, &error.to_string())),
            }
            if let Some(token) = line.strip_prefix("PING ") {
                let pong = format!("PONG {token}\r\n");
                self.stream
                    .get_mut()
                    .write_all(pong.as_bytes())
                    .map_err(|error| self.missed(text, &error.to_string()))?;
                continue;
            }
            self.transcript.push(format!("< {line}"));
            if texts.iter().any(|text| line.contains(text)) {
                return Ok(line);
            }
        }
        Err(self.missed(text, "it did not come"))
    }

    fn missed(&self, text: &str, why: &str) -> String {
        format!("{} waits for {text:?}: {why}; so far:\n{}", self.nick, self.transcript.join("\n"))
    }
}
