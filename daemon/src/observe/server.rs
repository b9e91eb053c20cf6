//! Those who ask the daemon something, by whatever way they come: so many at once, each for so long, and none of them can
//! hold up a pass. What they ask is not known here.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::warn;

/// How much is given to callers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// So many of them at once; more wait.
    pub(crate) at_once: usize,
    /// How long each may take to ask, and to take the answer.
    pub(crate) patience: Duration,
}

/// After this long an error that comes from a lack of something is over, or is waited out again.
const RECOVERY: Duration = Duration::from_secs(1);

/// Where callers come in.
pub(crate) trait Door {
    /// A conversation with one.
    type Caller;

    /// The next one.
    fn next(&mut self) -> impl Future<Output = io::Result<Self::Caller>> + Send;
}

impl Door for TcpListener {
    type Caller = TcpStream;

    async fn next(&mut self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Door for UnixListener {
    type Caller = UnixStream;

    async fn next(&mut self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Answers for ever. `whose` the callers are is for the log.
pub(crate) async fn serve<D: Door, A>(whose: &str, bounds: Bounds, mut door: D, answer: impl Fn(D::Caller) -> A)
where
    A: Future<Output = io::Result<()>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(bounds.at_once));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match door.next().await {
            Ok(caller) => {
                let answer = answer(caller);
                tokio::spawn(async move {
                    // A caller that goes away or takes too long has no claim to more than this.
                    let _ = tokio::time::timeout(bounds.patience, answer).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!("accept a caller of {whose}: {error}");
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

/// Ends a conversation. What the caller still says is taken in, so that closing does not take the answer away from it.
pub(crate) async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn as_many_are_answered_at_once_as_there_is_room_for_and_who_says_nothing_has_to_leave() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (present, most, answered) = (count(), count(), count());
            let (now, many, done) = (present.clone(), most.clone(), answered.clone());
            let answer = move |number: u32| {
                let (here, done) = (Here::come(&now, &many), done.clone());
                async move {
                    let _here = here;
                    tokio::task::yield_now().await;
                    if number.is_multiple_of(5) {
                        std::future::pending::<()>().await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            };
            let serving = tokio::spawn(async move {
                let bounds = Bounds { at_once: 3, patience: Duration::from_millis(5) };
                serve("a test", bounds, Numbers(0..50), answer).await;
            });
            let all_gone = async {
                while answered.load(Ordering::Relaxed) < 40 || present.load(Ordering::Relaxed) > 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), all_gone).await.unwrap();
            serving.abort();
            assert_eq!((most.load(Ordering::Relaxed), answered.load(Ordering::Relaxed)), (3, 40));
        });
    }

    struct Numbers(std::ops::Range<u32>);

    impl Door for Numbers {
        type Caller = u32;

        async fn next(&mut self) -> io::Result<u32> {
            match self.0.next() {
                Some(number) => Ok(number),
                None => std::future::pending().await,
            }
        }
    }

    fn count() -> Arc<AtomicUsize> {
        Arc::default()
    }

    /// A caller who is there.
    struct Here(Arc<AtomicUsize>);

    impl Here {
        fn come(now: &Arc<AtomicUsize>, most: &AtomicUsize) -> Self {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            Self(now.clone())
        }
    }

    impl Drop for Here {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
