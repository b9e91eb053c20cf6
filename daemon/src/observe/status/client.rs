//! Asking the daemon of this node for its status.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::observe::socket::{self, QUESTION};
use crate::observe::status::Status;

/// How long the daemon may take: it looks at the ledger, and is in no hurry while it makes a pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the daemon.
///
/// # Errors
/// A sentence with why it does not answer and the way out.
pub fn ask() -> Result<Status, String> {
    from(&socket::path())
}

fn from(place: &Path) -> Result<Status, String> {
    let why = |error: io::Error| {
        let way_out = match error.kind() {
            ErrorKind::NotFound => {
                "no podwired has been started here since the boot, or somebody has removed its socket: `systemctl restart podwired`"
            }
            ErrorKind::ConnectionRefused => "podwired has ended: `systemctl restart podwired`, and its log says why",
            ErrorKind::PermissionDenied => "the socket is root's: ask as root",
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                "it is there and stands still: `systemctl restart podwired`; pods keep their network"
            }
            _ => "see the log of podwired",
        };
        format!("podwired does not answer at {}: {error}: {way_out}", place.display())
    };
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(place)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{QUESTION}\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(why)?;
    let other =
        |error| format!("podwired at {} answers otherwise than this podwired expects: {error}", place.display());
    serde_json::from_slice(&answer).map_err(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_does_not_answer_is_told_with_the_way_out() {
        let none = from(Path::new("/nonexistent/podwired.sock")).unwrap_err();
        assert!(none.starts_with("podwired does not answer at /nonexistent/podwired.sock: No such file"), "{none}");
        assert!(none.ends_with("`systemctl restart podwired`"), "{none}");
        let place = std::env::temp_dir().join(format!("podwired-ask-{}.sock", std::process::id()));
        drop(std::os::unix::net::UnixListener::bind(&place).unwrap());
        let refused = from(&place).unwrap_err();
        assert!(refused.contains("refused") && refused.contains("has ended"), "{refused}");
        std::fs::remove_file(&place).unwrap();
    }
}
