//! The status socket: root sends it one line and gets one reply, the node's status as JSON. It is made again where it has
//! been removed.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use podwire_conf::defaults;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::observe::server::{self, Listener, Place, Places};
use crate::observe::snapshot::Snapshot;
use crate::observe::status::document::Status;
use crate::report::Report;

/// The socket's name in podwire's run directory.
const NAME: &str = "podwired.sock";

/// Where the socket is.
pub(crate) fn path() -> PathBuf {
    Path::new(defaults::RUN_DIRECTORY).join(NAME)
}

/// The question that the status is the answer to.
pub(crate) const QUESTION: &str = "status";

/// The longest question, in bytes.
const LONGEST: u64 = 64;

/// How many clients may be asking, and how long one may take.
const QUESTIONS: (usize, Duration) = (16, Duration::from_secs(1));

/// How many may be reading the reply or closing, and for how long.
const REPLIES: (usize, Duration) = (8, Duration::from_secs(10));

/// How often it is checked whether the socket is still in its place.
const LOOK: Duration = Duration::from_secs(1);

/// The socket, wherever it has been made last.
struct StatusSocket {
    place: PathBuf,
    /// The listener, and which file it is; `None` while it cannot be made.
    open: Option<(UnixListener, File)>,
    look: Interval,
}

/// A file, whatever its name: its device and inode number.
type File = (u64, u64);

impl StatusSocket {
    /// Makes the socket. Where that does not work, the log says so, and it is tried again.
    fn new(place: &Path) -> Self {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let open =
            open(place).inspect_err(|error| warn!("{error}; `podwired status` gets no reply until it can be made"));
        Self { place: place.into(), open: open.ok(), look }
    }

    /// Makes the socket again where it is not in its place.
    fn ensure(&mut self) {
        let in_place = fs::symlink_metadata(&self.place).ok().map(|found| identity(&found));
        if in_place.is_some() && in_place == self.open.as_ref().map(|(_, file)| *file) {
            return;
        }
        match (open(&self.place), &self.open) {
            (Ok(open), _) => {
                info!("set the status socket {}", self.place.display());
                self.open = Some(open);
            }
            (Err(error), Some(_)) => {
                warn!("{error}; `podwired status` gets no reply until it can be made");
                self.open = None;
            }
            // Logged already.
            (Err(_), None) => {}
        }
    }
}

impl Listener for StatusSocket {
    type Client = UnixStream;

    async fn next(&mut self) -> io::Result<UnixStream> {
        loop {
            let client = async {
                match &mut self.open {
                    Some((listener, _)) => listener.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                client = client => return client,
                _ = self.look.tick() => self.ensure(),
            }
        }
    }
}

fn identity(file: &fs::Metadata) -> File {
    (file.dev(), file.ino())
}

/// Makes the socket. One that is there is a dead daemon's: only one daemon runs on a node, and this is it. The new one
/// replaces it by a rename, with its final permissions.
fn open(place: &Path) -> io::Result<(UnixListener, File)> {
    let beside = place.with_extension("new");
    let open = || {
        if let Some(directory) = place.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&beside)?;
        fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
        let file = identity(&fs::symlink_metadata(&beside)?);
        fs::rename(&beside, place)?;
        Ok((listener, file))
    };
    open().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("make the status socket {}: {error}", place.display()))
    })
}

/// Serves the status socket at [`path`] for ever.
pub(crate) async fn serve(report: watch::Receiver<Report>) {
    let socket = StatusSocket::new(&path());
    let places = |(at_once, within)| Places::new(at_once, within);
    let replies = places(REPLIES);
    let answer = |stream, place| answer(stream, place, replies.clone(), report.clone());
    server::serve("the status socket", &places(QUESTIONS), socket, answer).await;
}

async fn answer(
    mut stream: UnixStream,
    place: Place,
    replies: Places,
    report: watch::Receiver<Report>,
) -> io::Result<()> {
    let question = async {
        let mut question = String::new();
        BufReader::new((&mut stream).take(LONGEST)).read_line(&mut question).await.map(|_| question)
    };
    let question = place.hold(question).await?;
    replies.take().hold(reply(stream, &question, &report)).await
}

async fn reply(mut stream: UnixStream, question: &str, report: &watch::Receiver<Report>) -> io::Result<()> {
    let answer = match question.trim_end() {
        QUESTION => serde_json::to_vec(&now(report).await?)?,
        other => {
            serde_json::to_vec(&serde_json::json!({ "error": format!("{other:?} is no question: ask {QUESTION:?}") }))?
        }
    };
    stream.write_all(&answer).await?;
    stream.write_all(b"\n").await?;
    server::close(stream).await
}

/// The status at this moment.
pub(crate) async fn now(report: &watch::Receiver<Report>) -> io::Result<Status> {
    let report = report.clone();
    let made = tokio::task::spawn_blocking(move || {
        let snapshot = Snapshot::take();
        // A copy: the next reconcile must not wait until thousands of peers are written down.
        let report = report.borrow().clone();
        Status::new(&report, snapshot, Instant::now())
    });
    made.await.map_err(io::Error::other)
}
