//! A container runtime as far as podwired asks it: its name and the sandboxes it lists, by the CRI on a Unix socket of a
//! host. What it lists is what a scene says, whatever pods there are.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::host::Host;

/// What it answers.
#[derive(Debug, Default)]
struct State {
    name: String,
    sandboxes: BTreeSet<String>,
    failure: Option<Failure>,
}

/// How it does not answer.
#[derive(Debug, Clone)]
pub enum Failure {
    /// By a status of gRPC, as a runtime without a CRI does ("12"), with a message.
    Status(&'static str, String),
    /// By nothing: the client waits.
    Hangs,
}

/// A runtime that answers for as long as this lives.
#[derive(Debug)]
pub struct Cri {
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cri {
    /// A runtime of this name at a socket of a host, in the place of one that was there.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(host: &Host, socket: &str, name: &str, sandboxes: &[&str]) -> Result<Self, String> {
        let bound = host.enter(|| {
            if let Err(error) = std::fs::remove_file(socket)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let listener = StdListener::bind(socket)?;
            listener.set_nonblocking(true).map(|()| listener)
        });
        let listener = bound.map_err(|error| format!("bind {socket} on {}: {error}", host.name))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let state = Arc::new(Mutex::new(State { name: name.into(), ..State::default() }));
        let (stop, stopped) = oneshot::channel();
        let answers = state.clone();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = serve(listener, answers) => {}
                }
            });
        });
        let runtime = Self { state, stop: Some(stop), thread: Some(thread) };
        runtime.lists(sandboxes);
        Ok(runtime)
    }

    /// From now on it lists these.
    pub fn lists(&self, sandboxes: &[&str]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sandboxes = sandboxes.iter().map(|id| (*id).to_owned()).collect();
    }
}

impl Cri {
    /// From now on it fails to answer, or answers again.
    pub fn fails(&self, failure: Option<Failure>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failure = failure;
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: StdListener, state: Arc<Mutex<State>>) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that goes away ends its own connection only.
        tokio::spawn(answer(stream, state.clone()));
    }
}

async fn answer(stream: UnixStream, state: Arc<Mutex<State>>) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut unanswered = Vec::new();
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let (failure, reply) = {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let reply = match request.uri().path() {
                "/runtime.v1.RuntimeService/Version" => Some(field(2, state.name.as_bytes())),
                "/runtime.v1.RuntimeService/ListPodSandbox" => {
                    Some(state.sandboxes.iter().flat_map(|id| field(1, &field(1, id.as_bytes()))).collect())
                }
                _ => None,
            };
            (state.failure.clone(), reply)
        };
        let (status, message, reply) = match (failure, reply) {
            // The stream stays open for as long as this end of it.
            (Some(Failure::Hangs), _) => {
                unanswered.push(respond);
                continue;
            }
            (Some(Failure::Status(status, message)), _) => (status, message, None),
            (None, None) => ("12", String::new(), None),
            (None, reply) => ("0", String::new(), reply),
        };
        let mut body = respond.send_response(Response::new(()), false)?;
        if let Some(message) = reply {
            let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
            body.send_data(Bytes::from([&[0], length.as_slice(), &message].concat()), false)?;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static(status));
        if let Ok(message) = http::HeaderValue::from_str(&message) {
            trailers.insert("grpc-message", message);
        }
        body.send_trailers(trailers)?;
    }
    Ok(())
}

/// A field of a protobuf message: its number and wire type 2, the length as a varint, the bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap_or_default());
    field.extend_from_slice(bytes);
    field
}
