//! Why a session with the IRC server is over, in one sentence each. Pure.

use std::fmt;
use std::io;

/// The reason; what the bot does next is always the same, it waits and connects again.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The connection was refused, had no route, or its name no address.
    NotConnected(io::Error),
    /// The connection was not made in time.
    ConnectTimedOut,
    /// 464: the password is not the server's.
    WrongPassword,
    /// 433 and its kin: another client is called `bot`.
    NickTaken,
    /// The server refused the registration with another numeric.
    RegistrationRefused {
        /// The numeric as it came.
        numeric: String,
        /// The server's words.
        text: String,
    },
    /// The server never answered the registration.
    RegistrationTimedOut,
    /// `ERROR` from the server.
    ServerError(String),
    /// The server closed the connection.
    Closed,
    /// The server did not answer the bot's ping.
    Silent,
    /// The server takes no more bytes.
    NotTaken,
    /// The connection broke.
    Broken(io::Error),
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected(error) => write!(formatter, "the server cannot be reached ({error})"),
            Self::ConnectTimedOut => write!(formatter, "the server did not accept the connection in time"),
            Self::WrongPassword => {
                write!(formatter, "the server refused the password (464), start the bot with the server's password")
            }
            Self::NickTaken => write!(
                formatter,
                "the nickname bot is taken (433), the other client has to give it up because questions go to that name"
            ),
            Self::RegistrationRefused { numeric, text } => {
                write!(formatter, "the server refused the registration ({numeric}: {text})")
            }
            Self::RegistrationTimedOut => write!(formatter, "the server did not complete the registration in time"),
            Self::ServerError(text) => write!(formatter, "the server ended the connection ({text})"),
            Self::Closed => write!(formatter, "the server closed the connection"),
            Self::Silent => write!(formatter, "the server is silent and did not answer a ping"),
            Self::NotTaken => write!(formatter, "the server takes no more data"),
            Self::Broken(error) => write!(formatter, "the connection broke ({error})"),
        }
    }
}
