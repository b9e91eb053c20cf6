//! The status socket: root sends it one line and gets one reply as JSON: the node's status, or what is asked about policies. It is
//! made again where it has been removed.

use std::fs::{self, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use podwire_conf::question::{self, Answer};
use podwire_conf::{defaults, shown};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::observe::policies;
use crate::observe::server::{self, Listener, Place, Places};
use crate::observe::snapshot::Snapshot;
use crate::observe::status::document::Status;
use crate::policy::question::Question;
use crate::report::Report;
use crate::report::attaching::{self, Attaching};
use crate::report::policies::Questions;

/// Where the socket is.
pub(crate) fn path() -> PathBuf {
    Path::new(defaults::RUN_DIRECTORY).join(defaults::STATUS_SOCKET)
}

/// The question that the status is the answer to.
pub(crate) const QUESTION: &str = "status";

/// The question that the list of policies is the answer to.
pub(crate) const POLICIES: &str = "policies";

/// How a question begins that the explanation of a packet is the answer to; behind it stand source, destination and port.
pub(crate) const EXPLAIN: &str = "explain";

/// The longest question, in bytes: two pods with the longest names, and a port; more than of an attachment with a dozen addresses.
const LONGEST: u64 = 1280;

/// The most of a wrong question that is shown, in characters.
const SHOWN: usize = 80;

/// How many clients may be asking, and how long one may take.
const QUESTIONS: (usize, Duration) = (16, Duration::from_secs(1));

/// How many may be reading the reply or closing, and for how long.
const REPLIES: (usize, Duration) = (8, Duration::from_secs(10));

/// How many attachments may wait for their policies, and for how long: as long as the plugin may.
const ATTACHMENTS: (usize, Duration) = (attaching::MOST, Duration::from_secs(60));
/// How long an answer about policies may take: a change of all of them takes less than a second.
const BUSY: Duration = Duration::from_secs(5);

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

/// What questions are answered from, and the places of those who wait for an answer.
#[derive(Clone)]
struct Known {
    report: watch::Receiver<Report>,
    attaching: Attaching,
    questions: Questions,
    replies: Places,
    attachments: Places,
}

/// Serves the status socket at [`path`] for ever.
pub(crate) async fn serve(report: watch::Receiver<Report>, attaching: Attaching, questions: Questions) {
    let socket = StatusSocket::new(&path());
    let places = |(at_once, within)| Places::new(at_once, within);
    let (replies, attachments) = (places(REPLIES), places(ATTACHMENTS));
    let known = Known { report, attaching, questions, replies, attachments };
    let answer = |stream, place| answer(stream, place, known.clone());
    server::serve("the status socket", &places(QUESTIONS), socket, answer).await;
}

async fn answer(mut stream: UnixStream, place: Place, known: Known) -> io::Result<()> {
    let question = async {
        let mut question = String::new();
        BufReader::new((&mut stream).take(LONGEST)).read_line(&mut question).await.map(|_| question)
    };
    let question = place.hold(question).await?;
    // Without its end an address may be another one.
    if let Some(addresses) = question.strip_suffix('\n').and_then(question::addresses) {
        return known.attachments.take().hold(attached(stream, addresses, &known)).await;
    }
    known.replies.take().hold(reply(stream, &question, &known)).await
}

/// Answers once the policies of these addresses are in force, unless whoever asks goes before.
async fn attached(mut stream: UnixStream, addresses: Vec<IpAddr>, known: &Known) -> io::Result<()> {
    let in_force = Answer { in_force: true, refused: None };
    let refused = |why: &str| Answer { in_force: false, refused: Some(why.into()) };
    let is_on = known.report.borrow().settings.network_policy;
    let answer = match is_on.then(|| known.attaching.wait_for(addresses)) {
        None => in_force,
        Some(None) => refused("too many attachments wait for their policies"),
        Some(Some(mut told)) => {
            let mut more = [0];
            let answered = tokio::select! {
                answered = &mut told => Some(answered),
                // It says no more: what comes is the end.
                _ = stream.read(&mut more) => None,
            };
            let Some(answered) = answered else {
                // Then it waits no more, as far as anybody sees who is woken.
                drop(told);
                known.attaching.gone();
                return Ok(());
            };
            if answered.is_ok() { in_force } else { refused("podwired is ending") }
        }
    };
    let answer = serde_json::to_string(&answer)?;
    stream.write_all(format!("{answer}\n").as_bytes()).await?;
    server::close(stream).await
}

async fn reply(mut stream: UnixStream, question: &str, known: &Known) -> io::Result<()> {
    let is_cut = question.len() as u64 >= LONGEST && !question.ends_with('\n');
    let line = question.trim_end();
    let answer = match line.split_once(' ').unwrap_or((line, "")) {
        (QUESTION, "") => serde_json::to_vec(&now(&known.report).await?)?,
        (POLICIES, "") => {
            let list: policies::Ask<_> =
                Box::new(|report, state, enforced| Ok(policies::list(report, state, enforced)));
            serde_json::to_vec(&known.about_policies(list).await)?
        }
        (EXPLAIN, asked) if !is_cut => match Question::parse(asked) {
            Ok(asked) => {
                let explain: policies::Ask<_> =
                    Box::new(move |report, state, enforced| policies::explain(&asked, report, state, enforced));
                serde_json::to_vec(&known.about_policies(explain).await)?
            }
            Err(mistake) => serde_json::to_vec(&AboutPolicies::<()>::Refused { refused: mistake.to_string() })?,
        },
        _ => {
            let shown = shown::bounded(line, SHOWN);
            let error = format!("\"{shown}\" is no question: ask \"{QUESTION}\", \"{POLICIES}\" or \"{EXPLAIN} …\"");
            serde_json::to_vec(&serde_json::json!({ "error": error }))?
        }
    };
    stream.write_all(&answer).await?;
    stream.write_all(b"\n").await?;
    server::close(stream).await
}

/// The answer to a question about policies, or why there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum AboutPolicies<T> {
    Found(T),
    Refused { refused: String },
}

impl<T> From<Result<T, String>> for AboutPolicies<T> {
    fn from(answered: Result<T, String>) -> Self {
        match answered {
            Ok(found) => Self::Found(found),
            Err(refused) => Self::Refused { refused },
        }
    }
}

impl Known {
    /// The answer to a question about policies, by whoever has put them in force.
    async fn about_policies<T: Send + 'static>(&self, ask: policies::Ask<T>) -> AboutPolicies<T> {
        // Where they are switched off, or before the start is over, nobody answers.
        if let Err(refused) = policies::state(&self.report.borrow()) {
            return AboutPolicies::Refused { refused };
        }
        let (answer, answered) = oneshot::channel();
        let report = self.report.clone();
        let has_room = self.questions.ask(move |enforced| {
            let report = report.borrow().clone();
            // Whoever has asked may have gone.
            let _ = answer.send(policies::answer(&report, enforced, ask));
        });
        if !has_room {
            return AboutPolicies::Refused {
                refused: "too many questions wait for an answer: ask again in a moment".into(),
            };
        }
        let busy = || {
            format!("the policies are being put in force, and no answer came within {BUSY:?}: ask again in a moment")
        };
        match tokio::time::timeout(BUSY, answered).await {
            Ok(Ok(answered)) => answered.into(),
            Ok(Err(_)) => AboutPolicies::Refused { refused: "podwired is ending".into() },
            Err(_) => AboutPolicies::Refused { refused: busy() },
        }
    }
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
