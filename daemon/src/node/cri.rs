//! The pod sandboxes of the container runtime, listed by its CRI: one unary gRPC call over HTTP/2, on a Unix socket. No
//! other file speaks CRI. What follows from the list is decided in `garbage`.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The sockets of runtimes: containerd, CRI-O.
pub(crate) const SOCKETS: [&str; 2] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"];

/// How long a reply may take. Nothing else waits for it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest accepted reply, in bytes: kubelet's limit.
const LARGEST_REPLY: usize = 16 * 1024 * 1024;

/// The name of the call (cri-api, runtime/v1/api.proto); the authority means nothing on a Unix socket.
const CALL: &str = "http://localhost/runtime.v1.RuntimeService/ListPodSandbox";

/// Before a gRPC message: one byte, whether it is compressed, and its length in four (gRPC over HTTP/2,
/// "Length-Prefixed-Message"). The request is an empty message: no filter.
const EMPTY_MESSAGE: [u8; PREFIX] = [0; PREFIX];
const PREFIX: usize = 5;

/// `UNIMPLEMENTED` of gRPC's status codes.
const UNIMPLEMENTED: &str = "12";

/// The reply of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The ids of its sandboxes, stopped ones too.
    Sandboxes(HashSet<String>),
    /// It has no CRI, as Docker's containerd.
    NoCri,
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

/// Lists the sandboxes of the runtime at a socket.
///
/// # Errors
/// Names the socket, and why there is no list.
pub(crate) async fn list_sandboxes(socket: &Path) -> Result<Reply, String> {
    let reply = match timeout(REPLY_TIMEOUT, exchange(socket)).await {
        Ok(reply) => reply,
        Err(_) => Err(format!("no reply within {REPLY_TIMEOUT:?}")),
    };
    reply.map_err(|why| format!("list the pod sandboxes of the container runtime at {}: {why}", socket.display()))
}

async fn exchange(socket: &Path) -> Result<Reply, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
    tokio::select! {
        reply = call(sender) => reply,
        ended = connection => Err(ended.err().map_or_else(|| "it closed the connection".into(), |error| error.to_string())),
    }
}

async fn call(sender: h2::client::SendRequest<Bytes>) -> Result<Reply, String> {
    let failed = |error: h2::Error| error.to_string();
    let request = Request::post(CALL).header("content-type", "application/grpc").header("te", "trailers").body(());
    let request = request.map_err(|error| error.to_string())?;
    let mut sender = sender.ready().await.map_err(failed)?;
    let (response, mut body) = sender.send_request(request, false).map_err(failed)?;
    body.send_data(Bytes::from_static(&EMPTY_MESSAGE), true).map_err(failed)?;
    let (head, mut body) = response.await.map_err(failed)?.into_parts();
    if !head.status.is_success() {
        return Err(format!("it replies with HTTP {}", head.status));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(failed)?;
        body.flow_control().release_capacity(chunk.len()).map_err(failed)?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_REPLY {
            return Err(format!("its reply is longer than {LARGEST_REPLY} bytes"));
        }
    }
    // A reply without content has its status among the headers.
    let trailers = body.trailers().await.map_err(failed)?.unwrap_or(head.headers);
    match text(&trailers, "grpc-status") {
        Some("0") => read(&bytes),
        Some(UNIMPLEMENTED) => Ok(Reply::NoCri),
        Some(status) => Err(format!("gRPC status {status}, {}", text(&trailers, "grpc-message").unwrap_or_default())),
        None => Err("a reply without a status: it does not speak gRPC".into()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn read(mut bytes: &[u8]) -> Result<Reply, String> {
    if bytes.len() < PREFIX || bytes.get_u8() != 0 || bytes.get_u32() as usize != bytes.len() {
        return Err("its reply is not one message".into());
    }
    let response = ListPodSandboxResponse::decode(bytes).map_err(|error| error.to_string())?;
    Ok(Reply::Sandboxes(response.items.into_iter().map(|sandbox| sandbox.id).collect()))
}

#[cfg(test)]
mod tests;
