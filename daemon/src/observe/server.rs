//! The server loop of the status socket and of the metrics. A new client is always accepted; places are limited, and the
//! newest client takes the place of the one that has had its own for longest. So clients that say nothing, or read nothing,
//! keep nobody from being answered, and none of them can hold up a reconcile. What they ask is not known here.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

/// How long to wait after an accept that failed, mostly for want of file descriptors.
const RECOVERY: Duration = Duration::from_millis(10);

/// The log says so no more often than this.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Limited places for what clients do: send a request, be answered, go away. Each kind of work has its own, so that one
/// cannot take the places of another.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: usize,
    within: Duration,
    /// The oldest first.
    taken: Mutex<VecDeque<Arc<Notify>>>,
}

impl Places {
    /// So many places, each for so long.
    pub(crate) fn new(at_once: usize, within: Duration) -> Self {
        Self(Arc::new(Inner { at_once, within, taken: Mutex::default() }))
    }

    /// A place. Where all are taken, the one that has been taken for longest is given up for it.
    pub(crate) fn take(&self) -> Place {
        let evicted = Arc::new(Notify::new());
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= self.0.at_once
            && let Some(oldest) = taken.pop_front()
        {
            oldest.notify_one();
        }
        taken.push_back(evicted.clone());
        Place { places: self.clone(), evicted }
    }

    /// Gives all of them up.
    fn evict_all(&self) {
        let taken = std::mem::take(&mut *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner));
        taken.iter().for_each(|place| place.notify_one());
    }
}

/// A place that is taken for as long as this lives.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    evicted: Arc<Notify>,
}

impl Place {
    /// Does work of no length in this place, and gives it up afterwards. What a client has sent already is answered, however
    /// many newer ones there are.
    ///
    /// # Errors
    /// Those of the work; and when the time is over, or a newer client needs the place.
    pub(crate) async fn hold<T>(self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = self.evicted.notified() => Err(evicted()),
            () = tokio::time::sleep(self.places.0.within) => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// Does work that takes long in this place, and does not go on with it once a newer client needs the place.
    ///
    /// # Errors
    /// As [`Place::hold`].
    pub(crate) async fn hold_while_free<T>(self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            biased;
            () = self.evicted.notified() => Err(evicted()),
            outcome = work => outcome,
            () = tokio::time::sleep(self.places.0.within) => Err(ErrorKind::TimedOut.into()),
        }
    }
}

fn evicted() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "a newer client has its place")
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|place| !Arc::ptr_eq(place, &self.evicted));
    }
}

/// A socket that listens.
pub(crate) trait Listener {
    /// A connection of a client.
    type Client;

    /// The next one.
    fn next(&mut self) -> impl Future<Output = io::Result<Self::Client>> + Send;
}

impl Listener for TcpListener {
    type Client = TcpStream;

    async fn next(&mut self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Client = UnixStream;

    async fn next(&mut self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves for ever: each client begins in one of the places of those who have not sent their request. `what` is served is for
/// the log.
pub(crate) async fn serve<L: Listener, A>(
    what: &str,
    requests: &Places,
    mut listener: L,
    answer: impl Fn(L::Client, Place) -> A,
) where
    A: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut logged: Option<Instant> = None;
    loop {
        match listener.next().await {
            Ok(client) => {
                let answer = answer(client, requests.take());
                // A client that goes away or takes too long is dropped.
                tokio::spawn(async move { answer.await.ok() });
            }
            Err(error) => {
                if logged.is_none_or(|last| last.elapsed() >= LOGGED_EVERY) {
                    logged = Some(Instant::now());
                    warn!("accept a client of {what}: {error}; trying again");
                }
                // Their descriptors are needed for the next client.
                requests.evict_all();
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

/// Closes a connection. What the client still sends is read, so that closing does not discard the reply.
pub(crate) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn the_newest_client_takes_the_place_of_the_oldest_and_time_ends_a_silent_one() {
        run(async {
            let places = Places::new(2, Duration::from_secs(1));
            let hold = |place: Place| tokio::spawn(place.hold(pending::<io::Result<()>>()));
            let first = hold(places.take());
            let second = hold(places.take());
            tokio::task::yield_now().await;
            let third = hold(places.take());
            let ended = |outcome: Result<io::Result<()>, _>| outcome.unwrap().unwrap_err().kind();
            assert_eq!(ended(first.await), ErrorKind::ConnectionAborted);
            assert!(!second.is_finished() && !third.is_finished());
            let start = tokio::time::Instant::now();
            assert_eq!(ended(second.await), ErrorKind::TimedOut);
            assert_eq!(ended(third.await), ErrorKind::TimedOut);
            assert_eq!(start.elapsed(), Duration::from_secs(1));
            assert_eq!(places.0.taken.lock().unwrap().len(), 0);
        });
    }

    #[test]
    fn what_has_arrived_is_answered_though_newer_clients_have_the_place() {
        run(async {
            let places = Places::new(1, Duration::from_secs(1));
            let first = places.take();
            let second = places.take();
            assert_eq!(first.hold(async { Ok(1) }).await.unwrap(), 1);
            assert_eq!(second.hold(async { Ok(2) }).await.unwrap(), 2);
            // Long work is not begun.
            let (first, second) = (places.take(), places.take());
            first.hold_while_free(async { Ok(1) }).await.unwrap_err();
            assert_eq!(second.hold_while_free(async { Ok(2) }).await.unwrap(), 2);
            // One that was given up already takes nothing from another when it goes.
            let (first, second) = (places.take(), places.take());
            drop(first);
            assert_eq!(places.0.taken.lock().unwrap().len(), 1);
            drop(second);
        });
    }

    #[test]
    fn an_accept_that_fails_frees_descriptors_and_the_next_client_is_served() {
        struct Clients(u32);

        impl Listener for Clients {
            type Client = u32;

            async fn next(&mut self) -> io::Result<u32> {
                self.0 += 1;
                match self.0 {
                    1..=3 | 6 => Ok(self.0),
                    // EMFILE
                    4 | 5 => Err(io::Error::from_raw_os_error(24)),
                    _ => pending().await,
                }
            }
        }

        run(async {
            let places = Places::new(8, Duration::from_secs(60));
            let (answered, evicted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (done, gone) = (answered.clone(), evicted.clone());
            let answer = move |number: u32, place: Place| {
                let (done, gone) = (done.clone(), gone.clone());
                async move {
                    if number == 6 {
                        return place
                            .hold(async { Ok(()) })
                            .await
                            .inspect(|()| _ = done.fetch_add(1, Ordering::Relaxed));
                    }
                    place.hold(pending()).await.inspect_err(|_| _ = gone.fetch_add(1, Ordering::Relaxed))
                }
            };
            let requests = places.clone();
            let serving = tokio::spawn(async move { serve("a test", &requests, Clients(0), answer).await });
            tokio::time::sleep(RECOVERY * 3).await;
            assert_eq!((answered.load(Ordering::Relaxed), evicted.load(Ordering::Relaxed)), (1, 3));
            serving.abort();
        });
    }
}
