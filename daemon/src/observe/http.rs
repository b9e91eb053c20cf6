//! A small web server for three pages: `/metrics`, `/healthz`, `/readyz`. One request a connection, bounded in size and
//! time; of HTTP/1.1 it has what RFC 9112 requires of a server of GET and HEAD that closes each connection.
//!
//! Health is answered from a client's first place, which every new client gets. Scrapes, and clients that read or close
//! slowly, have other places, and scrapes a thread of their own: to write many large pages takes long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podwire_conf::shown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{self, Handle};
use tokio::sync::{Mutex, Semaphore, watch};
use tracing::{info, warn};

use crate::observe::server::{self, Place, Places};
use crate::observe::{health, metrics, socket};
use crate::report::Report;

/// The longest request, in bytes: more than any scraper or probe sends.
const LONGEST: usize = 8 * 1024;

/// How many clients may be sending their request, and how long one may take: kubelet's probes have a second in all.
const REQUESTS: (usize, Duration) = (128, Duration::from_secs(1));

/// How many may be reading the metrics, and for how long.
const SCRAPES: (usize, Duration) = (32, Duration::from_secs(10));

/// How many may be waiting for the thread that answers them: a client that has lost its place gives its descriptor back only
/// there, and the thread may be behind.
const HANDED_OVER: usize = 256;

/// How many may be closing, and for how long.
const CLOSING: (usize, Duration) = (32, Duration::from_secs(1));

/// For so long a page of metrics is the same for all: to ask for it costs a reading of the ledger and of the kernel.
const PAGE_AGE: Duration = Duration::from_millis(500);

/// Connections that the kernel keeps until they are accepted: as many as it does by default (net.core.somaxconn). Where
/// there is no room for another one, its client tries again only after a second.
const BACKLOG: u32 = 4096;

/// How long after a failed bind the next one comes: the address may be free then.
const RECOVERY: Duration = Duration::from_secs(5);

/// The most characters of a sentence: kubelet reads 10 KiB of an answer.
const LONGEST_SENTENCE: usize = 2048;

const PLAIN: &str = "text/plain; charset=utf-8";

/// What all clients share.
struct Shared {
    report: watch::Receiver<Report>,
    /// Where scrapes are answered.
    thread: Handle,
    scrapes: Places,
    handed_over: Arc<Semaphore>,
    closing: Places,
    /// The last page of metrics, and when it was made.
    page: Mutex<Option<(Instant, Arc<str>)>>,
}

/// Answers for ever.
pub(crate) async fn serve(address: SocketAddr, report: watch::Receiver<Report>) {
    let mut reported = String::new();
    let listener = loop {
        match listen(address) {
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
    let thread = match scrape_thread() {
        Ok(thread) => thread,
        Err(error) => return warn!("start the thread of the metrics: {error}; there are no metrics and no health"),
    };
    let places = |(at_once, within)| Places::new(at_once, within);
    let (scrapes, closing) = (places(SCRAPES), places(CLOSING));
    let handed_over = Arc::new(Semaphore::new(HANDED_OVER));
    let shared = Arc::new(Shared { report, thread, scrapes, handed_over, closing, page: Mutex::default() });
    let answer = |stream, place| answer(stream, place, shared.clone());
    server::serve("the metrics", &places(REQUESTS), listener, answer).await;
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As the standard library does: connections of an earlier daemon that are closing do not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A thread that runs tasks for as long as the process lives.
fn scrape_thread() -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name("metrics".into()).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

async fn answer(mut stream: TcpStream, place: Place, shared: Arc<Shared>) -> io::Result<()> {
    if let Some(only_head) = place.hold(first(&mut stream, &shared.report)).await? {
        let Ok(handed_over) = shared.handed_over.clone().try_acquire_owned() else { return Ok(()) };
        let place = shared.scrapes.take();
        let thread = shared.thread.clone();
        thread.spawn(async move {
            // The stream is gone when this returns.
            let answered = scrape(stream, only_head, place, shared).await;
            drop(handed_over);
            answered.ok()
        });
        return Ok(());
    }
    shared.closing.take().hold(server::close(stream)).await
}

async fn scrape(mut stream: TcpStream, only_head: OnlyHead, place: Place, shared: Arc<Shared>) -> io::Result<()> {
    // In a task of its own: a page that is being made is for others too, whoever loses the place meanwhile.
    let body = tokio::spawn(metrics_page(shared.clone()));
    let work = async {
        let body = body.await.map_err(io::Error::other)??;
        let page = Page { status: "200 OK", kind: metrics::CONTENT_TYPE, body };
        send(&mut stream, &page, only_head).await
    };
    place.hold_while_free(work).await?;
    shared.closing.take().hold_while_free(server::close(stream)).await
}

/// Reads the request, and answers it unless it is for the metrics: then whether only their head is asked for.
async fn first(stream: &mut TcpStream, report: &watch::Receiver<Report>) -> io::Result<Option<OnlyHead>> {
    let request = read(stream).await?;
    let (only_head, page) = match requested(&request) {
        Err(refusal) => (OnlyHead(false), refusal),
        Ok((method, "/metrics")) => return Ok(Some(OnlyHead(method == "HEAD"))),
        Ok((method, path)) => (OnlyHead(method == "HEAD"), page(path, report)),
    };
    send(stream, &page, only_head).await.map(|()| None)
}

/// Whether a client wants the head of a reply only.
#[derive(Debug, Clone, Copy)]
struct OnlyHead(bool);

async fn send(stream: &mut TcpStream, page: &Page, OnlyHead(only_head): OnlyHead) -> io::Result<()> {
    let Page { status, kind, body } = page;
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !only_head {
        stream.write_all(body.as_bytes()).await?;
    }
    Ok(())
}

/// The page of metrics, made for the first who asks and for all who wait meanwhile.
async fn metrics_page(shared: Arc<Shared>) -> io::Result<Arc<str>> {
    let mut page = shared.page.lock().await;
    if let Some((made, text)) = &*page
        && made.elapsed() < PAGE_AGE
    {
        return Ok(text.clone());
    }
    let text: Arc<str> = metrics::render(&socket::now(&shared.report).await?).into();
    *page = Some((Instant::now(), text.clone()));
    Ok(text)
}

/// The end of a request's head.
const END: &[u8] = b"\r\n\r\n";

/// The head of a request, as far as there is room for it.
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(1024);
    let mut searched = 0;
    while request.len() < LONGEST && !has_end(&request, &mut searched) {
        let room = u64::try_from(LONGEST - request.len()).unwrap_or(0);
        if (&mut *stream).take(room).read_buf(&mut request).await? == 0 {
            break;
        }
    }
    // Who has gone, or ends its side without a word, gets no answer: many at once cost as little as they can.
    if request.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(request) }
}

/// Whether a request has an end, behind what was searched already: it may come byte by byte.
fn has_end(request: &[u8], searched: &mut usize) -> bool {
    let rest = &request[searched.saturating_sub(END.len() - 1)..];
    *searched = request.len();
    rest.windows(END.len()).any(|four| four == END)
}

/// An answer.
struct Page {
    status: &'static str,
    kind: &'static str,
    body: Arc<str>,
}

impl Page {
    /// A sentence. kubelet shows it to people, in the events of a pod.
    fn plain(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: PLAIN, body: (shown::bounded(&body.into(), LONGEST_SENTENCE) + "\n").into() }
    }
}

/// The method and the path of a request, or the reply to one that cannot be parsed.
fn requested(request: &[u8]) -> Result<(&str, &str), Page> {
    if !has_end(request, &mut 0) {
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

fn page(path: &str, report: &watch::Receiver<Report>) -> Page {
    let healthy = || Page::plain("200 OK", "ok");
    let unhealthy = |why: String| Page::plain("503 Service Unavailable", why);
    match path {
        "/healthz" => health::alive(&report.borrow(), Instant::now())
            .map_or_else(|hangs| unhealthy(hangs.to_string()), |()| healthy()),
        "/readyz" => health::ready(&report.borrow()).map_or_else(|why| unhealthy(why.to_string()), |()| healthy()),
        _ => Page::plain("404 Not Found", "there are /metrics, /healthz and /readyz"),
    }
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
    #[test]
    fn the_end_of_a_request_is_found_however_it_is_cut() {
        let whole = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        for cut in 1..=whole.len() {
            let mut searched = 0;
            let ends: Vec<_> = (1..=whole.len().div_ceil(cut))
                .map(|part| has_end(&whole[..(part * cut).min(whole.len())], &mut searched))
                .collect();
            assert!(ends.iter().rev().skip(1).all(|end| !end) && ends.last() == Some(&true), "{cut}: {ends:?}");
        }
    }
}
