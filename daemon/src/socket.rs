//! The status socket: root asks it one line and gets one answer, the node's status as JSON.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tracing::warn;

use crate::local::Local;
use crate::report::Report;
use crate::status::Status;

/// Where it is.
pub const SOCKET: &str = "/run/podwire/podwired.sock";

/// The question that the status is the answer to.
pub(crate) const QUESTION: &str = "status";

/// The longest question, in bytes.
const LONGEST: u64 = 64;

/// How long a caller may take to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Callers at once; more wait.
const CALLERS: usize = 8;

/// After this long an error that comes from a lack of something is over, or is waited out again.
const RECOVERY: Duration = Duration::from_secs(1);

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
    let room = Arc::new(Semaphore::new(CALLERS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let report = report.clone();
                tokio::spawn(async move {
                    // A caller that goes away or says nothing has no claim to more than this.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &report)).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!("accept a caller of the status socket: {error}");
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, report: &watch::Receiver<Report>) -> io::Result<()> {
    let mut stream = stream;
    let mut question = String::new();
    BufReader::new((&mut stream).take(LONGEST)).read_line(&mut question).await?;
    let answer = match question.trim_end() {
        QUESTION => serde_json::to_vec(&now(report).await?)?,
        other => {
            serde_json::to_vec(&serde_json::json!({ "error": format!("{other:?} is no question: ask {QUESTION:?}") }))?
        }
    };
    stream.write_all(&answer).await?;
    stream.write_all(b"\n").await?;
    stream.shutdown().await?;
    // What the caller still says is taken in, so that closing does not take the answer away from it.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
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
