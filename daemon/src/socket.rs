//! The status socket: root asks it one line and gets one answer, the node's status as JSON.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::callers::{self, Bounds};
use crate::local::Local;
use crate::report::Report;
use crate::status::Status;

/// Where it is.
pub const SOCKET: &str = "/run/podwire/podwired.sock";

/// The question that the status is the answer to.
pub(crate) const QUESTION: &str = "status";

/// The longest question, in bytes.
const LONGEST: u64 = 64;

/// How much is given to callers.
const CALLERS: Bounds = Bounds { at_once: 8, patience: Duration::from_secs(10) };

/// Makes the socket. One that is there is a dead daemon's: only one daemon runs on a node, and this is it. The new one takes
/// its place in one step, under its final permissions.
///
/// # Errors
/// A sentence that names the file.
pub(crate) fn open(place: &Path) -> io::Result<UnixListener> {
    let beside = place.with_extension("new");
    let open = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&beside)?;
        fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
        fs::rename(&beside, place)?;
        Ok(listener)
    };
    open().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("make the status socket {}: {error}", place.display()))
    })
}

/// Answers for ever.
pub(crate) async fn serve(listener: UnixListener, report: watch::Receiver<Report>) {
    callers::serve("the status socket", CALLERS, listener, |stream| answer(stream, report.clone())).await;
}

async fn answer(mut stream: UnixStream, report: watch::Receiver<Report>) -> io::Result<()> {
    let mut question = String::new();
    BufReader::new((&mut stream).take(LONGEST)).read_line(&mut question).await?;
    let answer = match question.trim_end() {
        QUESTION => serde_json::to_vec(&now(&report).await?)?,
        other => {
            serde_json::to_vec(&serde_json::json!({ "error": format!("{other:?} is no question: ask {QUESTION:?}") }))?
        }
    };
    stream.write_all(&answer).await?;
    stream.write_all(b"\n").await?;
    callers::part(stream).await
}

/// The status at this moment.
pub(crate) async fn now(report: &watch::Receiver<Report>) -> io::Result<Status> {
    let report = report.clone();
    let made = tokio::task::spawn_blocking(move || {
        let local = Local::look();
        // A copy: whoever enters the next pass must not wait until thousands of peers are written down.
        let report = report.borrow().clone();
        Status::new(&report, local, Instant::now())
    });
    made.await.map_err(io::Error::other)
}
