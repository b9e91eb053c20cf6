//! Asking the daemon of this node for its status, and about policies.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::observe::policies::document::{Explanation, List};
use crate::observe::socket::{self, EXPLAIN, POLICIES, QUESTION};
use crate::observe::status::document::Status;
use crate::policy::question::Question;

/// How long the daemon may take: it reads the ledger, and a full sync comes first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest reply that is read, in bytes: ten thousand peers take some five million.
const LARGEST: u64 = 256 * 1024 * 1024;

/// Why there is no status.
#[derive(Debug, Error)]
pub enum AskError {
    /// The daemon does not answer.
    #[error("podwired does not answer at {}: {error}: {}", place.display(), way_out(error))]
    Silent {
        /// The socket.
        place: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The daemon knows no such question.
    #[error("podwired at {} does not know the question: it says {said}: it is of another version, restart it", place.display())]
    Unknown {
        /// The socket.
        place: PathBuf,
        /// What it says.
        said: String,
    },
    /// The daemon has no answer; it says why.
    #[error("{0}")]
    Refused(String),
    /// The reply is not what was asked for.
    #[error("podwired at {} sent a reply that this podwired cannot parse: {error}: the daemon may be of another version, restart it", place.display())]
    Unexpected {
        /// The socket.
        place: PathBuf,
        /// What could not be parsed.
        error: serde_json::Error,
    },
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => {
            "no podwired has been started here since the boot, or its socket has been removed: `systemctl restart podwired`"
        }
        ErrorKind::ConnectionRefused => "podwired has ended: `systemctl restart podwired`, and its log says why",
        ErrorKind::PermissionDenied => "only root may use the socket: run this as root",
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "it runs but hangs: `systemctl restart podwired`; pods keep their network"
        }
        _ => "see the log of podwired",
    }
}

/// Asks the daemon for its status.
///
/// # Errors
/// Why it does not answer, with the fix.
pub fn ask() -> Result<Status, AskError> {
    from(&socket::path(), QUESTION)
}

/// Asks the daemon which policies are in force.
///
/// # Errors
/// Why it does not answer.
pub fn policies() -> Result<List, AskError> {
    from(&socket::path(), POLICIES)
}

/// Asks the daemon why a packet passes or not.
///
/// # Errors
/// Why it does not answer.
pub fn explain(question: &Question) -> Result<Explanation, AskError> {
    from(&socket::path(), &format!("{EXPLAIN} {question}"))
}

fn from<T: DeserializeOwned>(place: &Path, question: &str) -> Result<T, AskError> {
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(place)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LARGEST + 1).read_to_end(&mut answer)?;
        if answer.len() as u64 > LARGEST {
            return Err(io::Error::other(format!("its reply is longer than the {LARGEST} bytes that are read")));
        }
        Ok(answer)
    };
    let answer = ask().map_err(|error| AskError::Silent { place: place.into(), error })?;
    serde_json::from_slice(&answer).map_err(|error| {
        let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
        match (&said["refused"], &said["error"]) {
            (Value::String(why), _) => AskError::Refused(why.clone()),
            (_, Value::String(said)) => AskError::Unknown { place: place.into(), said: said.clone() },
            _ => AskError::Unexpected { place: place.into(), error },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(place: &Path) -> Result<Status, AskError> {
        from(place, QUESTION)
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_reported_with_the_way_out() {
        let none = status(Path::new("/nonexistent/podwired.sock")).unwrap_err().to_string();
        assert!(none.starts_with("podwired does not answer at /nonexistent/podwired.sock: No such file"), "{none}");
        assert!(none.ends_with("`systemctl restart podwired`"), "{none}");
        let place = std::env::temp_dir().join(format!("podwired-ask-{}.sock", std::process::id()));
        drop(std::os::unix::net::UnixListener::bind(&place).unwrap());
        let refused = status(&place).unwrap_err().to_string();
        assert!(refused.contains("refused") && refused.contains("has ended"), "{refused}");
        std::fs::remove_file(&place).unwrap();
    }

    /// What a daemon that answers this leads to.
    fn answered(answer: &'static str) -> AskError {
        let place = std::env::temp_dir().join(format!("podwired-answer-{}-{}.sock", answer.len(), std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; POLICIES.len() + 1]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = from::<List>(&place, POLICIES).unwrap_err();
        daemon.join().unwrap();
        std::fs::remove_file(&place).unwrap();
        error
    }

    #[test]
    fn a_daemon_that_has_no_answer_is_told_from_one_that_does_not_know_the_question() {
        let refused = answered(r#"{"refused":"they are switched off"}"#);
        assert!(matches!(&refused, AskError::Refused(why) if why == "they are switched off"), "{refused}");
        let older = answered(r#"{"error":"it is no question"}"#).to_string();
        assert!(older.ends_with("it says it is no question: it is of another version, restart it"), "{older}");
        assert!(matches!(answered("{}"), AskError::Unexpected { .. }));
    }
}
