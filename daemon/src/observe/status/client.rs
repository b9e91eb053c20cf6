//! Asking the daemon of this node for its status.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::observe::socket::{self, QUESTION};
use crate::observe::status::document::Status;

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
    /// The reply is not a status.
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

/// Asks the daemon.
///
/// # Errors
/// Why it does not answer, with the fix.
pub fn ask() -> Result<Status, AskError> {
    from(&socket::path())
}

fn from(place: &Path) -> Result<Status, AskError> {
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(place)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{QUESTION}\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LARGEST + 1).read_to_end(&mut answer)?;
        if answer.len() as u64 > LARGEST {
            return Err(io::Error::other(format!("its reply is longer than the {LARGEST} bytes that are read")));
        }
        Ok(answer)
    };
    let answer = ask().map_err(|error| AskError::Silent { place: place.into(), error })?;
    serde_json::from_slice(&answer).map_err(|error| AskError::Unexpected { place: place.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_does_not_answer_is_reported_with_the_way_out() {
        let none = from(Path::new("/nonexistent/podwired.sock")).unwrap_err().to_string();
        assert!(none.starts_with("podwired does not answer at /nonexistent/podwired.sock: No such file"), "{none}");
        assert!(none.ends_with("`systemctl restart podwired`"), "{none}");
        let place = std::env::temp_dir().join(format!("podwired-ask-{}.sock", std::process::id()));
        drop(std::os::unix::net::UnixListener::bind(&place).unwrap());
        let refused = from(&place).unwrap_err().to_string();
        assert!(refused.contains("refused") && refused.contains("has ended"), "{refused}");
        std::fs::remove_file(&place).unwrap();
    }
}
