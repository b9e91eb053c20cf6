//! Tracked connections, listed on a thread of its own: the walk past 100,000 takes a tenth of a second, and past none some milliseconds, which
//! no change of the policies should wait for.
//!
//! What may not live here: which of them are refused (`policies::judging`).

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;

use podwire_kernel::conntrack::Connection;
use podwire_kernel::{Result, Socket};

use crate::datapath::policy::tracked;
use crate::policy::restricted::Restricted;

/// So many parts of a list may wait; then the list waits.
const PARTS: usize = 4;

/// What comes of a list.
pub(super) enum Listed {
    /// Some of them.
    Some(Vec<Connection>),
    /// There are no more, or the rest cannot be had.
    End(Result<()>),
}

/// The thread, as whoever asks sees it.
pub(super) struct Connections {
    asked: Sender<(Restricted, bool)>,
    listed: Receiver<Listed>,
}

impl Connections {
    /// Starts the thread. It wakes for each part of a list.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) fn start(wake: SyncSender<()>) -> io::Result<Self> {
        let ((asked, questions), (parts, listed)) = (channel(), sync_channel(PARTS));
        let run = move || serve(&questions, &parts, &wake);
        thread::Builder::new().name("connections".into()).spawn(run)?;
        Ok(Self { asked, listed })
    }

    /// Asks for those that may be refused now and, where there are some, those that are cut. An end follows, and perhaps parts before it.
    pub(super) fn ask(&self, restricted: Restricted, are_some: bool) {
        // It ends only when nobody can ask any more.
        let _ = self.asked.send((restricted, are_some));
    }

    /// What has come of it since.
    pub(super) fn next(&self) -> Option<Listed> {
        match self.listed.try_recv() {
            Ok(listed) => Some(listed),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => unreachable!("the thread ends only when nobody can ask any more"),
        }
    }
}

fn serve(questions: &Receiver<(Restricted, bool)>, parts: &SyncSender<Listed>, wake: &SyncSender<()>) {
    let mut socket = None;
    let give = |listed| {
        // Nobody asks any more where nobody listens.
        let _ = parts.send(listed);
        // One wake-up that has not been taken stands for all.
        let _ = wake.try_send(());
    };
    while let Ok((restricted, are_some)) = questions.recv() {
        let listed = socket.take().map_or_else(Socket::netfilter, Ok).and_then(|mut opened| {
            tracked::list(&mut opened, &restricted, are_some, |some| give(Listed::Some(some)))?;
            Ok(opened)
        });
        // After an error what is left of the list may still be on the socket.
        let end = listed.map(|opened| socket = Some(opened));
        give(Listed::End(end));
    }
}
