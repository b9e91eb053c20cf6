//! The pages that a pod has for its fellows, for kubelet and for whoever looks.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::matrix::Matrix;
use crate::row::{Row, Seen};
use crate::{JOURNAL, ask};

/// The pause after `accept` failed: mostly for want of descriptors, which only time can mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many callers the kernel keeps waiting.
const BACKLOG: u32 = 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Listens on every address, IPv6 and IPv4, or IPv4 alone where the system has no IPv6.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let on = |socket: TcpSocket, address: IpAddr| {
        // A restart must not wait for the connections of the process before it.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(address, port))?;
        socket.listen(BACKLOG)
    };
    let both = TcpSocket::new_v6().and_then(|socket| on(socket, Ipv6Addr::UNSPECIFIED.into()));
    match both {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            on(TcpSocket::new_v4()?, Ipv4Addr::UNSPECIFIED.into())
        }
        outcome => outcome,
    }
}

/// Answers for ever.
pub(crate) async fn answer(listener: TcpListener, row: watch::Receiver<Row>, port: u16) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let row = row.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| respond(request, peer.ip().to_canonical(), &row, port));
                    let connection =
                        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
                    // Whoever goes away or takes too long gets no answer, and knows it.
                    let _ = timeout(ask::LONG, connection).await;
                });
            }
            Err(error) => {
                JOURNAL.say(format_args!("a connection was not accepted: {error}"));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    peer: IpAddr,
    row: &watch::Receiver<Row>,
    port: u16,
) -> io::Result<Response<Full<Bytes>>> {
    if request.method() != Method::GET {
        return page(false, TEXT, "only GET is answered\n");
    }
    // Not held over an await: the next round wants to write.
    let own = row.borrow().clone();
    match request.uri().path() {
        "/seen" => page(true, JSON, serde_json::to_string(&Seen { pod: own.pod, node: own.node, seen: peer })?),
        "/row" => page(true, JSON, serde_json::to_string(&own)?),
        "/healthz" => page(true, TEXT, "ok\n"),
        "/readyz" => {
            let troubles = own.troubles();
            page(troubles.is_empty(), TEXT, troubles.join("\n") + "\n")
        }
        "/matrix" => {
            let matrix = Matrix::gather(own, port).await;
            page(matrix.troubles().is_empty(), TEXT, matrix.draw())
        }
        "/matrix.json" => {
            let matrix = Matrix::gather(own, port).await;
            page(matrix.troubles().is_empty(), JSON, matrix.json()?)
        }
        _ => page(false, TEXT, "pages: /matrix /matrix.json /row /seen /readyz /healthz\n"),
    }
}

fn page(good: bool, kind: &'static str, body: impl Into<Bytes>) -> io::Result<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::from(body.into()));
    *response.status_mut() = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
