//! Connections that had begun before a change: the fast path forgets them, and tracked ones are judged by what is compiled now.
//!
//! What may not live here: when that is due (`cutting`).

use std::sync::mpsc::Receiver;
use std::time::Instant;

use podwire_kernel::conntrack::Connection;
use podwire_kernel::{Result, Socket};
use tracing::{error, info, warn};

use crate::datapath::policy::table::Applied;
use crate::datapath::policy::tracked::{self, Judged};
use crate::policy::restricted::Restricted;
use crate::reconcile::connections::Listed;
use crate::reconcile::cutting::Soon;
use crate::reconcile::policies::Policies;

impl Policies {
    /// Has the fast path forget, and connections judged, where a change asks for it.
    pub(super) fn cut_after(&mut self, applied: Applied, soon: Soon) {
        let now = Instant::now();
        if !applied.left_behind.is_empty() {
            self.cutting.leave_behind(applied.left_behind, now);
        }
        if !applied.restricted.is_empty() {
            self.cutting.restrict(applied.restricted, soon, now);
        } else if applied.changes > 0 && self.are_cut {
            self.cutting.judge(Restricted::default(), soon, now);
        }
        self.forget();
    }

    /// Has the fast path forget, where that is due.
    pub(super) fn forget(&mut self) {
        if self.cutting.forgets(Instant::now())
            && let Some(forgetting) = &self.forgetting
            && let Err(error) = forgetting.forget()
        {
            warn!("the fast path goes on with connections that policies refuse now, for a second: {error}");
        }
    }

    /// Judges tracked connections where that is due. They are listed elsewhere; a change that comes meanwhile does not wait for the list: it
    /// is put in force between two parts of it, and the rest is judged by it.
    pub(super) fn judge(&mut self, woken: &Receiver<()>) {
        loop {
            if self.listing.is_none() {
                let Some(restricted) = self.cutting.judges(Instant::now()) else { return };
                let unlisted = self.unlisted.take().map(|(restricted, _)| restricted);
                let restricted = restricted.and(unlisted.unwrap_or_default());
                // What is cut now may be allowed again by a change that comes meanwhile.
                let are_some = std::mem::replace(&mut self.are_cut, true);
                self.connections.ask(restricted.clone(), are_some);
                self.listing = Some((restricted, Ok(Judged::default())));
            }
            match self.connections.next() {
                None => return,
                Some(Listed::Some(connections)) => {
                    self.judge_some(connections);
                    if woken.try_recv().is_ok() {
                        self.turn();
                    }
                }
                Some(Listed::End(end)) => self.end_of_list(end),
            }
        }
    }

    fn judge_some(&mut self, connections: Vec<Connection>) {
        let Some((restricted, judged @ Ok(_))) = &mut self.listing else { return };
        // What is compiled in part is not what the kernel has: those are judged later, and some of them may be cut.
        if !self.incremental.stands() {
            if let Ok(judged) = judged {
                judged.are_some = true;
            }
            let restricted = restricted.clone();
            return self.judge_later(restricted);
        }
        let compiled = self.incremental.compiled();
        let some = self.conntrack.take().map_or_else(Socket::netfilter, Ok).and_then(|mut socket| {
            let some = tracked::judge(&mut socket, connections, |packet| compiled.verdict(packet).passes())?;
            // After an error answers to what failed may still be on it.
            self.conntrack = Some(socket);
            Ok(some)
        });
        let are_cut = some.as_ref().map_or(true, |some| some.cut > 0);
        *judged = match (std::mem::replace(judged, Ok(Judged::default())), some) {
            (Ok(before), Ok(some)) => Ok(before.and(some)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        if are_cut {
            self.cutting.cut();
            self.forget();
        }
    }

    /// Has those judged that were not, where it is time to try again.
    pub(super) fn judge_again(&mut self) {
        let now = Instant::now();
        if let Some((restricted, _)) = self.unlisted.take_if(|(_, due)| *due <= now) {
            self.cutting.judge(restricted, Soon::Now, now);
        }
    }

    /// These could not be judged: it is tried again after a while. What could not be before has been listed with them.
    fn judge_later(&mut self, restricted: Restricted) {
        self.unlisted = Some((restricted, Instant::now() + self.again));
    }

    fn end_of_list(&mut self, end: Result<()>) {
        let Some((restricted, judged)) = self.listing.take() else { return };
        self.cutting.listed(Instant::now());
        match end.and(judged) {
            Ok(judged) => {
                (self.are_cut, self.unjudged) = (judged.are_some, None);
                if judged.cut + judged.resumed > 0 {
                    info!(cut = judged.cut, resumed = judged.resumed, "judged connections that had begun before");
                }
            }
            Err(failure) => {
                let text = format!("connections that had begun before are not judged: {failure}");
                if self.unjudged.is_none() {
                    error!("{text}");
                }
                self.unjudged = Some(text);
                self.judge_later(restricted);
            }
        }
    }
}
