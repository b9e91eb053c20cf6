//! The membership file, and what changes in it while the daemon runs.
//!
//! A change counts when it was seen twice in a row (`stamp`), and a file that never rests is a problem. At the start once is
//! enough for a file that has been as it is for a while. A file that was rewritten with identical content is not parsed again.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use podwire_attachment::regular_file;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cluster::membership::{Membership, ParseError};
use crate::cluster::update::Update;
use crate::report::Report;
use crate::report::feed::Source;
use crate::sources::channel::{Publisher, Subscriber, channel};
use crate::sources::stamp::{INTERVAL, RESTLESS, Stamp};

/// The largest membership file that is read, in bytes: sixty thousand nodes.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Why there is no membership to be had from the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("read the membership file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It keeps changing.
    #[error("the membership file {} has been changing for {RESTLESS:?}, and is read only when it rests: replace it by a rename", path.display())]
    Restless {
        /// The file.
        path: PathBuf,
    },
    /// It is no membership.
    #[error("membership file {}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, and how.
        source: ParseError,
    },
}

impl FileError {
    /// Whether the same file may be read later.
    fn is_passing(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, InvalidData};
        matches!(self, Self::Unreadable { source, .. } if !matches!(source.kind(), FileTooLarge | InvalidData))
    }
}

/// Reads the membership file once.
///
/// # Errors
/// When it cannot be read, or is no membership.
pub(crate) fn read(path: &Path) -> Result<Membership, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.into(), source };
    parse(path, &regular_file::read_text(path, LARGEST).map_err(unreadable)?)
}

fn parse(path: &Path, text: &str) -> Result<Membership, FileError> {
    Membership::parse(text).map_err(|source| FileError::Invalid { path: path.into(), source })
}

/// Reads the membership file, and goes on watching it.
///
/// # Errors
/// When the file cannot be read now: a later failure keeps the last membership.
pub(crate) async fn start(path: PathBuf, report: watch::Sender<Report>) -> io::Result<Subscriber> {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut reader = Reader { path, hasher: RandomState::new(), last: None };
    let mut complaints = Complaints { report: report.clone(), logged: String::new() };
    let (mut seen, begun) = (None, Instant::now());
    let (stamp, first) = loop {
        ticks.tick().await;
        let now = reader.stamp().map_err(io::Error::other)?;
        if (seen == Some(now) || now.is_at_rest(SystemTime::now()))
            && let Content::New(first) = reader.read(now).map_err(io::Error::other)?
        {
            break (now, first);
        }
        seen = Some(now);
        if begun.elapsed() >= RESTLESS {
            complaints.say(&reader.restless(), "waiting for a membership");
        }
    };
    let (publisher, subscriber) = channel(first);
    complaints.none();
    tokio::spawn(watch_file(reader, stamp, publisher, complaints));
    Ok(subscriber)
}

async fn watch_file(mut reader: Reader, first: Stamp, publisher: Publisher, mut complaints: Complaints) {
    let mut ticks = tokio::time::interval(INTERVAL);
    // What was last seen, and what was last dealt with. That it is not there is a state as well, and that something else is in
    // its place another one: the error's words tell them apart.
    let mut seen = Ok(first);
    let mut dealt_with = Some(seen.clone());
    let mut rested = Instant::now();
    loop {
        ticks.tick().await;
        let stamp = reader.stamp();
        let now = stamp.as_ref().copied().map_err(ToString::to_string);
        let settled = now == seen;
        seen = now;
        if settled && dealt_with.as_ref() == Some(&seen) {
            rested = Instant::now();
            continue;
        }
        let content = if settled { stamp.and_then(|now| reader.read(now)) } else { Ok(Content::Changing) };
        dealt_with = Some(seen.clone());
        match content {
            Ok(Content::Changing) => {
                dealt_with = None;
                if rested.elapsed() >= RESTLESS {
                    complaints.say(&reader.restless(), KEPT);
                }
                continue;
            }
            Ok(Content::Same) => complaints.none(),
            Ok(Content::New(membership)) => {
                complaints.none();
                let nodes = membership.nodes.len();
                let changed = publisher.publish(|current| {
                    let update = (*current != membership).then(|| Update::between(current, &membership));
                    *current = membership;
                    update
                });
                if changed {
                    info!(nodes, "the membership has changed");
                }
            }
            Err(error) => {
                // What the file is to blame for stays so until it changes. Descriptors that are wanting come back.
                if seen.is_ok() && error.is_passing() {
                    dealt_with = None;
                }
                complaints.say(&error, KEPT);
            }
        }
        rested = Instant::now();
    }
}

/// What is done where the file cannot be used.
const KEPT: &str = "going on with the last membership that could be read";

/// What was said of the file: in the log once, and in the report.
struct Complaints {
    report: watch::Sender<Report>,
    logged: String,
}

impl Complaints {
    fn say(&mut self, error: &FileError, so: &str) {
        let text = error.to_string();
        if text != self.logged {
            warn!("{text}; {so}");
            self.report.send_modify(|report| report.feed.fails(text.clone()));
            self.logged = text;
        }
    }

    fn none(&mut self) {
        self.logged.clear();
        self.report.send_modify(|report| report.feed.comes_from(Source::File));
    }
}

/// The file, and what it had in it the last time.
struct Reader {
    path: PathBuf,
    hasher: RandomState,
    /// Stands for the last text that could be parsed.
    last: Option<u64>,
}

/// What a file has in it.
enum Content {
    /// It was changed while it was read: it is read again.
    Changing,
    /// The same bytes as the last time.
    Same,
    /// A text that was not there before.
    New(Membership),
}

impl Reader {
    fn read(&mut self, seen: Stamp) -> Result<Content, FileError> {
        let text = regular_file::read_text(&self.path, LARGEST).map_err(|error| self.unreadable(error))?;
        if self.stamp().ok() != Some(seen) {
            return Ok(Content::Changing);
        }
        let hash = self.hasher.hash_one(&text);
        if self.last == Some(hash) {
            return Ok(Content::Same);
        }
        let membership = parse(&self.path, &text)?;
        self.last = Some(hash);
        Ok(Content::New(membership))
    }

    fn stamp(&self) -> Result<Stamp, FileError> {
        Stamp::of(&self.path).map_err(|error| self.unreadable(error))
    }

    fn restless(&self) -> FileError {
        FileError::Restless { path: self.path.clone() }
    }

    fn unreadable(&self, source: io::Error) -> FileError {
        FileError::Unreadable { path: self.path.clone(), source }
    }
}
