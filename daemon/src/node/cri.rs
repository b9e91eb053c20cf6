//! The pod sandboxes of the container runtime, listed by its CRI, and the runtime's name: two unary gRPC calls over one
//! HTTP/2 connection, on a Unix socket, so that the same process answers both. No other file speaks CRI. Which socket is asked
//! is decided in `cri_socket`, what follows from the list in `garbage`.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, StatusCode};
use podwire_conf::shown;
use prost::Message;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a reply may take. Nothing else waits for it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest accepted reply, in bytes: kubelet's limit.
const LARGEST_REPLY: usize = 16 * 1024 * 1024;

/// The most characters of a runtime's name that are kept: `containerd`, `cri-o`.
const LONGEST_NAME: usize = 64;

/// The most characters of its words about an error that are kept.
const LONGEST_MESSAGE: usize = 512;

/// The names of the calls (cri-api, runtime/v1/api.proto); the authority means nothing on a Unix socket.
const LIST: &str = "http://localhost/runtime.v1.RuntimeService/ListPodSandbox";
const VERSION: &str = "http://localhost/runtime.v1.RuntimeService/Version";

/// Before a gRPC message: one byte, whether it is compressed, and its length in four (gRPC over HTTP/2,
/// "Length-Prefixed-Message"). The requests are empty messages: no filter.
const EMPTY_MESSAGE: [u8; PREFIX] = [0; PREFIX];
const PREFIX: usize = 5;

/// `UNIMPLEMENTED` of gRPC's status codes.
const UNIMPLEMENTED: &str = "12";

/// The reply of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// What it has.
    Listing(Listing),
    /// It has no CRI, as Docker's containerd.
    NoCri,
}

/// What a runtime has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Its name; empty where it does not say one.
    pub(crate) name: String,
    /// The ids of its sandboxes, stopped ones too.
    pub(crate) sandboxes: HashSet<String>,
}

/// `runtime.v1.VersionResponse`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct VersionResponse {
    #[prost(string, tag = "2")]
    runtime_name: String,
}

/// `runtime.v1.ListPodSandboxResponse`, the fields that are used.
#[derive(Clone, PartialEq, Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

/// `runtime.v1.PodSandbox`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct PodSandbox {
    #[prost(string, tag = "1")]
    id: String,
}

/// Why a runtime has not listed its sandboxes.
#[derive(Debug, Error)]
#[error("list the pod sandboxes of the container runtime at {}: {cause}", socket.display())]
pub(crate) struct CriError {
    socket: PathBuf,
    cause: Cause,
}

/// What came instead of a list.
#[derive(Debug, Error)]
enum Cause {
    #[error("no reply within {REPLY_TIMEOUT:?}")]
    Timeout,
    #[error(transparent)]
    Connect(#[from] io::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it replies with HTTP {0}")]
    Http(StatusCode),
    #[error("its reply is longer than {LARGEST_REPLY} bytes")]
    TooLong,
    #[error("gRPC status {status}, {message}")]
    Grpc { status: String, message: String },
    #[error("a reply without a status: it does not speak gRPC")]
    NoGrpc,
    #[error("its reply is not one message")]
    NotOneMessage,
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
}

/// Lists the sandboxes of the runtime at a socket.
///
/// # Errors
/// What came instead of a list.
pub(crate) async fn list_sandboxes(socket: &Path) -> Result<Reply, CriError> {
    let reply = timeout(REPLY_TIMEOUT, exchange(socket)).await.unwrap_or(Err(Cause::Timeout));
    reply.map_err(|cause| CriError { socket: socket.into(), cause })
}

async fn exchange(socket: &Path) -> Result<Reply, Cause> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let calls = async {
        let Some(version) = call::<VersionResponse>(&sender, VERSION).await? else { return Ok(Reply::NoCri) };
        let Some(list) = call::<ListPodSandboxResponse>(&sender, LIST).await? else { return Ok(Reply::NoCri) };
        Ok(Reply::Listing(Listing {
            name: version.runtime_name.chars().take(LONGEST_NAME).collect(),
            sandboxes: list.items.into_iter().map(|sandbox| sandbox.id).collect(),
        }))
    };
    tokio::select! {
        reply = calls => reply,
        ended = connection => Err(ended.err().map_or(Cause::Closed, Cause::Http2)),
    }
}

/// Calls; nothing where the runtime has no such call.
async fn call<T: Message + Default>(sender: &h2::client::SendRequest<Bytes>, name: &str) -> Result<Option<T>, Cause> {
    let request = Request::post(name).header("content-type", "application/grpc").header("te", "trailers").body(());
    let request = request?;
    let mut sender = sender.clone().ready().await?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(&EMPTY_MESSAGE), true)?;
    let (head, mut body) = response.await?.into_parts();
    if !head.status.is_success() {
        return Err(Cause::Http(head.status));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_REPLY {
            return Err(Cause::TooLong);
        }
    }
    // A reply without content has its status among the headers.
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    match text(&trailers, "grpc-status") {
        Some("0") => read(&bytes).map(Some),
        Some(UNIMPLEMENTED) => Ok(None),
        Some(status) => {
            let message = shown::bounded(text(&trailers, "grpc-message").unwrap_or_default(), LONGEST_MESSAGE);
            Err(Cause::Grpc { status: shown::bounded(status, LONGEST_NAME), message })
        }
        None => Err(Cause::NoGrpc),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn read<T: Message + Default>(mut bytes: &[u8]) -> Result<T, Cause> {
    if bytes.len() < PREFIX || bytes.get_u8() != 0 || bytes.get_u32() as usize != bytes.len() {
        return Err(Cause::NotOneMessage);
    }
    Ok(T::decode(bytes)?)
}

#[cfg(test)]
mod tests;
