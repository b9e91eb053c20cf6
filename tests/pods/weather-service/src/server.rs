//! The HTTP server: connections, their limits, and one line in the journal for each request. What a request is answered
//! with stands in `answer`.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::JOURNAL;
use crate::answer::answer;

/// How many connections are served at once; further ones wait in the kernel's queue.
const CONNECTIONS_AT_ONCE: usize = 64;

/// How long a client may take for its request and for reading the answer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);

/// The pause after `accept` failed: mostly for want of descriptors, which only time can mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves all connections for ever. `key` is the only accepted one; without one any key is good.
pub(crate) async fn serve(listener: TcpListener, key: Option<String>) -> Infallible {
    let key: Option<Arc<str>> = key.map(Arc::from);
    let places = Arc::new(Semaphore::new(CONNECTIONS_AT_ONCE));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let key = key.clone();
                tokio::spawn(async move {
                    // The place is given back when the connection is over.
                    let _place = place;
                    converse(stream, peer, key.as_deref()).await;
                });
            }
            Err(error) => {
                JOURNAL.say(format_args!("a connection was not accepted: {error}"));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request; a second one needs a second connection.
async fn converse(stream: TcpStream, peer: SocketAddr, key: Option<&str>) {
    // A listener on [::] sees IPv4 peers as mapped addresses; the journal names the address that the node has.
    let peer = peer.ip().to_canonical();
    let service = service_fn(|request| std::future::ready(respond(&request, peer, key)));
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_LIMIT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => JOURNAL.say(format_args!("{peer} was not served: {error}")),
        Err(_) => JOURNAL.say(format_args!("{peer} was not served: the request or the reading took too long")),
    }
}

fn respond(request: &Request<Incoming>, peer: IpAddr, key: Option<&str>) -> io::Result<Response<Full<Bytes>>> {
    let uri = request.uri();
    let answer = answer(request.method().as_str(), uri.path(), uri.query().unwrap_or(""), key);
    JOURNAL.say(format_args!("{peer} asked for {}: {}", answer.subject, answer.status));
    let mut response = Response::new(Full::from(answer.body.to_string()));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(io::Error::other)?;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
