//! A client of bare bytes.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    time::Instant,
};

use crate::program::{PASSWORD, PATIENCE, Program};

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    /// Connects over IPv4 and says nothing.
    pub(crate) fn connect(program: &Program) -> Self {
        Self::over(TcpStream::connect((Ipv4Addr::LOCALHOST, program.port)).unwrap())
    }

    /// Uses a connection.
    pub(crate) fn over(stream: TcpStream) -> Self {
        // A question after a long message must not wait for the acknowledgement of the message.
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    /// Connects, registers, and reads the greeting to its end.
    pub(crate) fn enter(program: &Program, nick: &str) -> Self {
        let mut wire = Self::connect(program);
        wire.register(nick);
        wire
    }

    /// Registers and reads the greeting to its end.
    pub(crate) fn register(&mut self, nick: &str) {
        self.say(&format!("PASS {PASSWORD}\r\nNICK {nick}\r\nUSER {nick} 0 * :{nick} of the test"));
        self.hear(" 376 ");
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a line.
    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes());
    }

    /// The next line, which has to be UTF-8 and to end with CR LF; `None` at the end of the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.strip_suffix("\r\n").unwrap_or_else(|| panic!("no CR LF: {line:?}")).to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line: {error}"),
        }
    }

    /// Reads lines until one has `part`, and gives that one.
    pub(crate) fn hear(&mut self, part: &str) -> String {
        self.hear_any(&[part])
    }

    /// Reads lines until one has one of `parts`, and gives that one.
    pub(crate) fn hear_any(&mut self, parts: &[&str]) -> String {
        let mut before = Vec::new();
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the connection ended before {parts:?}: {before:?}"));
            if parts.iter().any(|part| line.contains(part)) {
                return line;
            }
            before.push(line);
        }
    }

    /// Asks, without reading an answer, for some 7 MB: more than a queue and the kernel keep together, by no more than
    /// a client may send at once.
    pub(crate) fn asks_for_more_than_it_takes(&mut self) {
        for number in 0..20 {
            self.say(&format!("JOIN #long{number}\r\nTOPIC #long{number} :{}", "x".repeat(300)));
        }
        self.send("LIST\r\n".repeat(1000).as_bytes());
    }

    /// Asserts that nothing has been sent but the answer to a PING.
    pub(crate) fn hears_nothing(&mut self) {
        self.say("PING :nothing");
        assert_eq!(self.line().unwrap(), ":irc.podwire.test PONG irc.podwire.test :nothing");
    }

    /// Reads to the end of the connection, and gives all.
    pub(crate) fn rest(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 65536]);
        while Instant::now() < deadline {
            match self.reader.read(&mut buffer) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("no end: {error}"),
                _ => return String::from_utf8(bytes).unwrap(),
            }
        }
        panic!("the connection goes on and on: {}", String::from_utf8_lossy(&bytes));
    }

    /// Ends the sending direction.
    pub(crate) fn stop_sending(&self) {
        self.stream().shutdown(Shutdown::Write).unwrap();
    }

    /// The socket itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}
