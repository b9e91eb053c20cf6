//! The server loop of the status socket and of the metrics: so many clients at once, each for so long, and none of them can
//! hold up a reconcile. What they ask is not known here.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::warn;

/// The limits of clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// So many of them at once; more wait.
    pub(crate) at_once: usize,
    /// How long each may take to send its request, and to read the reply.
    pub(crate) timeout: Duration,
}

/// How long to wait after an accept that failed, mostly for want of file descriptors.
const RECOVERY: Duration = Duration::from_secs(1);

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

/// Serves for ever. `what` is served is for the log.
pub(crate) async fn serve<L: Listener, A>(what: &str, bounds: Bounds, mut listener: L, answer: impl Fn(L::Client) -> A)
where
    A: Future<Output = io::Result<()>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(bounds.at_once));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.next().await {
            Ok(client) => {
                let answer = answer(client);
                tokio::spawn(async move {
                    // A client that goes away or takes too long is dropped.
                    let _ = tokio::time::timeout(bounds.timeout, answer).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!("accept a client of {what}: {error}");
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn clients_are_limited_in_number_and_a_silent_one_is_dropped() {
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
                let bounds = Bounds { at_once: 3, timeout: Duration::from_millis(5) };
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

    impl Listener for Numbers {
        type Client = u32;

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

    /// A client that is connected.
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
