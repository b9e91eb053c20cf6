//! A scripted IRC server on loopback: it speaks the few lines that a test tells it to.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use crate::bot::PASSWORD;
use pod_process::process::PATIENCE;

/// The listener.
pub(crate) struct IrcPeer {
    /// Where it listens, as the bot takes it.
    pub(crate) address: String,
    connections: Receiver<TcpStream>,
}

impl IrcPeer {
    /// Listens on a free port of IPv4 loopback.
    pub(crate) fn listen() -> Self {
        Self::listen_on("127.0.0.1:0")
    }

    /// Listens on the address and port.
    pub(crate) fn listen_on(address: &str) -> Self {
        Self::from_listener(TcpListener::bind(address).unwrap())
    }

    /// Takes over a listener.
    pub(crate) fn from_listener(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (sender, connections) = channel();
        // The thread gives `accept` a deadline; it ends with the first connection that nobody waits for, or with the
        // test run.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if sender.send(stream).is_err() {
                    break;
                }
            }
        });
        Self { address, connections }
    }

    /// Waits for the next connection and reads the bot's three lines.
    pub(crate) fn accept(&self) -> IrcConnection {
        let stream = self.connections.recv_timeout(PATIENCE).expect("the bot connects");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut connection = IrcConnection { reader: BufReader::new(stream) };
        assert_eq!(connection.read(), format!("PASS :{PASSWORD}"));
        assert_eq!(connection.read(), "NICK bot");
        assert_eq!(connection.read(), "USER bot 0 * :weather bot");
        connection
    }

    /// Waits for the next connection and welcomes the bot.
    pub(crate) fn register(&self) -> IrcConnection {
        let mut connection = self.accept();
        connection.send(":irc.example 001 bot :Welcome");
        connection
    }
}

/// One connection of the bot.
pub(crate) struct IrcConnection {
    reader: BufReader<TcpStream>,
}

impl IrcConnection {
    /// Sends one line.
    pub(crate) fn send(&mut self, line: &str) {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The bot's next line with its line end, or nothing when the bot has closed.
    pub(crate) fn read_raw(&mut self) -> String {
        let mut bytes = Vec::new();
        self.reader.read_until(b'\n', &mut bytes).expect("the bot sends a line");
        String::from_utf8(bytes).unwrap()
    }

    /// The bot's next line without its line end.
    pub(crate) fn read(&mut self) -> String {
        let line = self.read_raw();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("{line:?} has no line end")).to_owned()
    }

    /// Pings the bot and shows that the pong is the very next line: nothing else was sent.
    pub(crate) fn assert_nothing_but_pong(&mut self) {
        self.send("PING :token");
        assert_eq!(self.read(), "PONG :token");
    }

    /// Asks for a city and gives the text of the first line of the answer.
    pub(crate) fn ask(&mut self, city: &str) -> String {
        self.send(&format!(":irc.example WEATHER alice :{city}"));
        self.read_answer()
    }

    /// The text of the next line, which has to be for alice.
    pub(crate) fn read_answer(&mut self) -> String {
        let line = self.read();
        line.strip_prefix("PRIVMSG alice :").unwrap_or_else(|| panic!("{line:?} is not for alice")).to_owned()
    }

    /// Asks for a city that the service knows and reads the nine lines.
    pub(crate) fn assert_served(&mut self) {
        assert!(self.ask("Paris").starts_with("---"), "the rule comes first");
        for _ in 0..8 {
            self.read_answer();
        }
    }

    /// Sends pings and reads no pong, until the bot closes.
    pub(crate) fn ping_without_reading(mut self) {
        let pings = format!("PING :{}\r\n", "x".repeat(400)).repeat(100);
        while self.reader.get_mut().write_all(pings.as_bytes()).is_ok() {}
    }

    /// Closes both directions.
    pub(crate) fn close(self) {
        self.reader.get_ref().shutdown(Shutdown::Both).unwrap();
    }
}
