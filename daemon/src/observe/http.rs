//! A small web server for three pages: `/metrics`, `/healthz`, `/readyz`. One request a connection, bounded in size and
//! time; of HTTP/1.1 it has what RFC 9112 requires of a server of GET and HEAD that closes each connection.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::observe::server::{self, Bounds};
use crate::observe::{health, metrics, socket};
use crate::report::Report;

/// The longest request, in bytes: more than any scraper or probe sends.
const LONGEST: usize = 8 * 1024;

/// The limits of clients.
const CLIENTS: Bounds = Bounds { at_once: 16, timeout: Duration::from_secs(10) };

/// How long after a failed bind the next one comes: the address may be free then.
const RECOVERY: Duration = Duration::from_secs(5);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Answers for ever.
pub(crate) async fn serve(address: SocketAddr, report: watch::Receiver<Report>) {
    let mut reported = String::new();
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if error.to_string() != reported => {
                warn!("listen on {address} for metrics: {error}; trying again");
                reported = error.to_string();
            }
            Err(_) => {}
        }
        tokio::time::sleep(RECOVERY).await;
    };
    info!("metrics and health are at http://{address}");
    server::serve("the metrics", CLIENTS, listener, |stream| answer(stream, report.clone())).await;
}

async fn answer(mut stream: TcpStream, report: watch::Receiver<Report>) -> io::Result<()> {
    let request = read(&mut stream).await?;
    let page = match requested(&request) {
        Err(refusal) => refusal,
        Ok((_, path)) => page(path, &report).await?,
    };
    let Page { status, kind, body } = page;
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !matches!(requested(&request), Ok(("HEAD", _))) {
        stream.write_all(body.as_bytes()).await?;
    }
    server::close(stream).await
}

/// The head of a request, as far as there is room for it.
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(1024);
    while request.len() < LONGEST && !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let room = u64::try_from(LONGEST - request.len()).unwrap_or(0);
        if (&mut *stream).take(room).read_buf(&mut request).await? == 0 {
            break;
        }
    }
    Ok(request)
}

/// An answer.
struct Page {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Page {
    fn plain(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: PLAIN, body: format!("{}\n", body.into()) }
    }
}

/// The method and the path of a request, or the reply to one that cannot be parsed.
fn requested(request: &[u8]) -> Result<(&str, &str), Page> {
    if !request.windows(4).any(|four| four == b"\r\n\r\n") {
        return Err(match request.len() {
            LONGEST.. => Page::plain("431 Request Header Fields Too Large", "the request is too long"),
            _ => Page::plain("400 Bad Request", "the request has no end"),
        });
    }
    let line = request.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<_> = line.unwrap_or_default().split(' ').collect();
    match words.as_slice() {
        [method @ ("GET" | "HEAD"), target, "HTTP/1.1" | "HTTP/1.0"] => {
            Ok((*method, target.split('?').next().unwrap_or_default()))
        }
        [_, _, "HTTP/1.1" | "HTTP/1.0"] => Err(Page::plain("405 Method Not Allowed", "ask with GET")),
        _ => Err(Page::plain("400 Bad Request", "this is not HTTP/1.1")),
    }
}

async fn page(path: &str, report: &watch::Receiver<Report>) -> io::Result<Page> {
    let healthy = || Page::plain("200 OK", "ok");
    let unhealthy = |why: String| Page::plain("503 Service Unavailable", why);
    Ok(match path {
        "/metrics" => {
            let body = metrics::render(&socket::now(report).await?);
            Page { status: "200 OK", kind: metrics::CONTENT_TYPE, body }
        }
        "/healthz" => health::alive(&report.borrow(), Instant::now())
            .map_or_else(|hangs| unhealthy(hangs.to_string()), |()| healthy()),
        "/readyz" => health::ready(&report.borrow()).map_or_else(|why| unhealthy(why.to_string()), |()| healthy()),
        _ => Page::plain("404 Not Found", "there are /metrics, /healthz and /readyz"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_parsed_or_refused_by_its_status() {
        fn status(request: &[u8]) -> Result<(&str, &str), &'static str> {
            requested(request).map_err(|page| page.status)
        }
        assert_eq!(status(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(("GET", "/metrics")));
        assert_eq!(status(b"HEAD /healthz?verbose HTTP/1.0\r\n\r\n"), Ok(("HEAD", "/healthz")));
        assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n"), Err("405 Method Not Allowed"));
        for wrong in
            [&b""[..], b"GET / HTTP/1.1\r\n", b"GET /\r\n\r\n", b"\xff\xfe x HTTP/1.1\r\n\r\n", b"a b c d\r\n\r\n"]
        {
            assert_eq!(status(wrong), Err("400 Bad Request"), "{wrong:?}");
        }
        assert_eq!(status(&vec![b'a'; LONGEST]), Err("431 Request Header Fields Too Large"));
    }
}
