//! One connection to the IRC server, from the TCP handshake to its end. What a line means stands in `dialogue`.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use crate::JOURNAL;
use crate::address::ServerAddress;
use crate::desk::{Answer, Desk, QUESTIONS_AT_ONCE};
use crate::dialogue::{Reaction, react};
use crate::ending::Ending;
use crate::framing::{Frame, Framing};
use crate::liveness::{Due, Liveness};
use crate::outgoing;

/// A session that is over.
pub(crate) struct Past {
    /// The server took the bot in before the session ended.
    pub(crate) registered: bool,
    /// Why it ended.
    pub(crate) ending: Ending,
}

/// The open connection with what is known about it.
struct Session<'a> {
    stream: TcpStream,
    server: &'a ServerAddress,
    desk: &'a Desk,
    silence: Duration,
    liveness: Liveness,
    registered: bool,
    answers: mpsc::Sender<Answer>,
}

/// Connects, registers and serves until something ends the session. `silence` is the span that the server has for
/// everything: to accept the connection (with the resolution of its name), to take a line, to answer a ping.
pub(crate) async fn hold(server: &ServerAddress, password: &str, silence: Duration, desk: &Desk) -> Past {
    let connecting = TcpStream::connect((server.host.as_str(), server.port));
    let stream = match timeout(silence, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Past { registered: false, ending: Ending::NotConnected(error) },
        Err(_) => return Past { registered: false, ending: Ending::ConnectTimedOut },
    };
    let (answers, finished) = mpsc::channel(QUESTIONS_AT_ONCE);
    let liveness = Liveness::new(silence, Instant::now());
    let mut session = Session { stream, server, desk, silence, liveness, registered: false, answers };
    let Err(ending) = session.serve(password, finished).await;
    Past { registered: session.registered, ending }
}

impl Session<'_> {
    /// Never returns but with the reason of the end.
    async fn serve(&mut self, password: &str, mut finished: mpsc::Receiver<Answer>) -> Result<Infallible, Ending> {
        self.send(&outgoing::registration(password)).await?;
        let mut framing = Framing::default();
        let mut chunk = [0; 4096];
        loop {
            tokio::select! {
                read = self.stream.read(&mut chunk) => {
                    let length = read.map_err(Ending::Broken)?;
                    if length == 0 {
                        return Err(Ending::Closed);
                    }
                    self.liveness.heard(Instant::now());
                    for frame in framing.push(&chunk[..length]) {
                        self.take(frame).await?;
                    }
                }
                // The session holds a sender itself, so this channel never ends.
                Some(answer) = finished.recv() => self.send(&answer).await?,
                () = sleep_until(self.liveness.deadline().into()) => match self.liveness.due(Instant::now()) {
                    Due::Nothing => {}
                    Due::Ping => self.send(&outgoing::ping()).await?,
                    Due::Dead => return Err(Ending::Silent),
                    Due::Unregistered => return Err(Ending::RegistrationTimedOut),
                },
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Ending> {
        let Frame::Line(line) = frame else {
            JOURNAL.say(format_args!("{}: a line that is too long is passed over", self.server));
            return Ok(());
        };
        match react(&line) {
            Reaction::Nothing => {}
            Reaction::Registered => {
                self.registered = true;
                self.liveness.registered(Instant::now());
                JOURNAL.say(format_args!("connected to {}", self.server));
            }
            Reaction::Send(reply) => self.send(&reply).await?,
            Reaction::Ask(question) => {
                if let Err(refusal) = self.desk.take(question, self.answers.clone()) {
                    self.send(&refusal).await?;
                }
            }
            Reaction::Note(note) => JOURNAL.say(format_args!("{}: {note}", self.server)),
            Reaction::End(ending) => return Err(ending),
        }
        Ok(())
    }

    /// Sends whole lines. A server that stops reading ends the session; it must not stop the bot.
    async fn send(&mut self, lines: &str) -> Result<(), Ending> {
        match timeout(self.silence, self.stream.write_all(lines.as_bytes())).await {
            Ok(result) => result.map_err(Ending::Broken),
            Err(_) => Err(Ending::NotTaken),
        }
    }
}
