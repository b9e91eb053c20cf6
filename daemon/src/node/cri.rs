//! The pod sandboxes that the container runtime knows, asked of its CRI: one unary call of gRPC over HTTP/2, on a Unix
//! socket. The only file that speaks it. What follows from the answer is `garbage`'s.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Where runtimes have their socket: containerd, CRI-O.
pub(crate) const SOCKETS: [&str; 2] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"];

/// How long an answer may take. Nothing waits for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// The largest answer that is taken, in bytes: what kubelet takes.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The name of the call (cri-api, runtime/v1/api.proto); the authority means nothing on a Unix socket.
const CALL: &str = "http://localhost/runtime.v1.RuntimeService/ListPodSandbox";

/// Before a message of gRPC: one byte that says whether it is compressed, and its length in four (gRPC over HTTP/2,
/// "Length-Prefixed-Message"). The request is an empty message: no filter.
const EMPTY_MESSAGE: [u8; PREFIX] = [0; PREFIX];
const PREFIX: usize = 5;

/// `UNIMPLEMENTED` of gRPC's status codes.
const UNIMPLEMENTED: &str = "12";

/// What a runtime has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The ids of its sandboxes, stopped ones too.
    Sandboxes(HashSet<String>),
    /// It is no runtime of Kubernetes: it has no CRI, as Docker's containerd.
    NoCri,
}

/// `runtime.v1.ListPodSandboxResponse`, as far as it is read.
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

/// Asks the runtime behind a socket.
///
/// # Errors
/// A sentence that names the socket and what came instead of an answer.
pub(crate) async fn ask(socket: &Path) -> Result<Answer, String> {
    let answer = match timeout(ANSWERED_WITHIN, exchange(socket)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {ANSWERED_WITHIN:?}")),
    };
    answer.map_err(|why| format!("ask the container runtime at {} for its pod sandboxes: {why}", socket.display()))
}

async fn exchange(socket: &Path) -> Result<Answer, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
    tokio::select! {
        answer = call(sender) => answer,
        ended = connection => Err(ended.err().map_or_else(|| "it hung up".into(), |error| error.to_string())),
    }
}

async fn call(sender: h2::client::SendRequest<Bytes>) -> Result<Answer, String> {
    let failed = |error: h2::Error| error.to_string();
    let request = Request::post(CALL).header("content-type", "application/grpc").header("te", "trailers").body(());
    let request = request.map_err(|error| error.to_string())?;
    let mut sender = sender.ready().await.map_err(failed)?;
    let (response, mut body) = sender.send_request(request, false).map_err(failed)?;
    body.send_data(Bytes::from_static(&EMPTY_MESSAGE), true).map_err(failed)?;
    let (head, mut body) = response.await.map_err(failed)?.into_parts();
    if !head.status.is_success() {
        return Err(format!("it answers HTTP {}", head.status));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(failed)?;
        body.flow_control().release_capacity(chunk.len()).map_err(failed)?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_ANSWER {
            return Err(format!("its answer is longer than {LARGEST_ANSWER} bytes"));
        }
    }
    // An answer without content has its status among the headers.
    let trailers = body.trailers().await.map_err(failed)?.unwrap_or(head.headers);
    match text(&trailers, "grpc-status") {
        Some("0") => read(&bytes),
        Some(UNIMPLEMENTED) => Ok(Answer::NoCri),
        Some(status) => Err(format!("gRPC status {status}, {}", text(&trailers, "grpc-message").unwrap_or_default())),
        None => Err("an answer without a status: it does not speak gRPC".into()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn read(mut bytes: &[u8]) -> Result<Answer, String> {
    if bytes.len() < PREFIX || bytes.get_u8() != 0 || bytes.get_u32() as usize != bytes.len() {
        return Err("its answer is not one message".into());
    }
    let response = ListPodSandboxResponse::decode(bytes).map_err(|error| error.to_string())?;
    Ok(Answer::Sandboxes(response.items.into_iter().map(|sandbox| sandbox.id).collect()))
}

#[cfg(test)]
mod tests;
