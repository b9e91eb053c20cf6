//! As much of an API server as podwired asks: lists in pages and watches, over plain HTTP on a host's loopback. What it has is
//! prepared text, so that it costs nothing beside what is measured. What may not live here: what the objects are (`cluster`).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;

/// Its port on the loopback.
const PORT: u16 = 6443;

/// How long an event may wait for somebody who watches.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where podwired is told how it is reached.
pub(crate) const KUBECONFIG: &str = "/run/kubeconfig";

const TEXT: &str = "apiVersion: v1
kind: Config
clusters: [{name: bench, cluster: {server: \"http://127.0.0.1:6443\"}}]
users: [{name: bench, user: {}}]
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
current-context: bench
";

/// A kind of object, by how its path ends.
pub(crate) type Plural = &'static str;

/// The server; its threads end with their connections.
#[derive(Debug)]
pub(crate) struct Api {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is listed of each kind; a kind that is not among them is not answered yet.
    lists: HashMap<Plural, Arc<Vec<String>>>,
    /// The watches that are open, the last of each kind.
    watches: HashMap<Plural, Sender<String>>,
    /// Which lists were sent to their ends.
    listed: HashMap<Plural, Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something.
    fn wait_for<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Api {
    /// Starts on a host, with no list to give out, and writes the kubeconfig.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) fn start(host: &Host) -> Result<Self, String> {
        host.run("ip", &["link", "set", "lo", "up"])?;
        let made = host.enter(|| {
            std::fs::write(KUBECONFIG, TEXT)?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))
        });
        let listener = made.map_err(|error| format!("serve the API on {}: {error}", host.name))?;
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                // Whoever has gone away has gone away.
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Ok(Self { shared })
    }

    /// Gives out a list from now on.
    pub(crate) fn give(&self, plural: Plural, objects: Vec<String>) {
        self.shared.lock().lists.insert(plural, Arc::new(objects));
        self.shared.changed.notify_all();
    }

    /// Waits until somebody has read the list of a kind to its end, and watches.
    ///
    /// # Errors
    /// When nobody does.
    pub(crate) fn wait_watched(&self, plural: Plural) -> Result<(), String> {
        let watched = self.shared.wait_for(|state| state.watches.contains_key(plural).then_some(()));
        watched.ok_or_else(|| format!("nobody watches {plural}"))
    }

    /// When the last page of a list was written.
    pub(crate) fn listed(&self, plural: Plural) -> Option<Instant> {
        self.shared.lock().listed.get(plural).copied()
    }

    /// Sends an event to whoever watches; when it was sent.
    ///
    /// # Errors
    /// When nobody does.
    pub(crate) fn tell(&self, plural: Plural, what: &str, object: &serde_json::Value) -> Result<Instant, String> {
        let line = format!("{{\"type\":\"{what}\",\"object\":{object}}}\n");
        let watch = self.shared.wait_for(|state| state.watches.get(plural).cloned());
        let now = Instant::now();
        let sent = watch.is_some_and(|watch| watch.send(line).is_ok());
        if sent { Ok(now) } else { Err(format!("nobody watches {plural}")) }
    }
}

/// Serves the requests of a connection.
fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let end = loop {
            if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            match stream.read(&mut bytes)? {
                0 => return Ok(()),
                count => request.extend_from_slice(bytes.get(..count).unwrap_or_default()),
            }
        };
        let head = String::from_utf8_lossy(request.get(..end).unwrap_or_default()).into_owned();
        request.drain(..end + 4);
        let target = head.split_whitespace().nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let kinds: [Plural; 4] = ["nodes", "namespaces", "pods", "networkpolicies"];
        // There are no ClusterNetworkPolicies, as where their definition is not installed.
        let Some(plural) = kinds.into_iter().find(|plural| path.rsplit('/').next() == Some(*plural)) else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")?;
            continue;
        };
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, value)| value)
        };
        if parameter("watch") == Some("true") {
            let (sender, events) = channel();
            shared.lock().watches.insert(plural, sender);
            shared.changed.notify_all();
            return watch(&mut stream, &events);
        }
        let number = |name: &str| parameter(name).and_then(|value| value.parse::<usize>().ok());
        let (start, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let Some(list) = shared.wait_for(|state| state.lists.get(plural).cloned()) else { return Ok(()) };
        let end = start.saturating_add(limit).min(list.len());
        let items = list.get(start..end).unwrap_or_default().join(",");
        let next = if end < list.len() { end.to_string() } else { String::new() };
        let body =
            format!("{{\"metadata\":{{\"resourceVersion\":\"1\",\"continue\":\"{next}\"}},\"items\":[{items}]}}");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
        if next.is_empty() {
            shared.lock().listed.insert(plural, Instant::now());
        }
        stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())?;
    }
}

fn watch(stream: &mut TcpStream, events: &Receiver<String>) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for event in events {
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
    }
    Ok(())
}
