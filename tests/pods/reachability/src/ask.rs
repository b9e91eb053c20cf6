//! One question by HTTP: a connection of its own, by an address and not by a name.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a fellow may take: longer than a lost packet's first two retransmissions.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// How long a matrix may take, which is made of what all fellows answer.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// The answer's status and body.
///
/// # Errors
/// How far it came.
pub(crate) async fn get(to: SocketAddr, path: &str, within: Duration) -> Result<(u16, Bytes), String> {
    timed(to, path, within).await.map(|(status, body, _)| (status.as_u16(), body))
}

/// As [`get`]; and how long the answer took, the connection standing.
///
/// # Errors
/// How far it came.
pub(crate) async fn timed(
    to: SocketAddr,
    path: &str,
    within: Duration,
) -> Result<(StatusCode, Bytes, Duration), String> {
    match timeout(within, exchange(to, path)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", within.as_secs())),
    }
}

async fn exchange(to: SocketAddr, path: &str) -> Result<(StatusCode, Bytes, Duration), String> {
    let told = |error: io::Error| error.to_string();
    let stream = TcpStream::connect(to).await.map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    let failed = |error: hyper::Error| format!("connected, but then: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(path).header(HOST, to.to_string()).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let started = Instant::now();
    let answered = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| format!("connected, but then: {error}"))?;
        Ok((status, body.to_bytes(), started.elapsed()))
    };
    // The connection is what moves the answer; its own end says nothing that the answer does not.
    let (answer, _) = tokio::join!(answered, connection);
    answer
}
