//! A scripted weather service on loopback: what it does with a question depends on the city.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};

use pod_process::process::PATIENCE;

/// A good answer in the shape of the real service.
pub(crate) const PARIS: &str = r#"{"location":{"name":"Paris","region":"Ile-de-France","country":"France"},
    "current":{"temp_c":18.0,"condition":{"text":"Partly cloudy"},"wind_kph":12.2,"humidity":63,"uv":4.0}}"#;

/// What the service does with one question.
pub(crate) enum Reply {
    /// A whole HTTP answer with this status and body.
    Whole(u16, String),
    /// A redirection to another place.
    Redirect(String),
    /// These bytes and then the end of the connection.
    Bytes(&'static str),
    /// These bytes and then silence.
    BytesThenSilence(&'static str),
    /// One byte of a long answer after the other, for as long as the client reads.
    Dribble,
    /// A good answer once the test opens the gate.
    AtGate,
}

/// A question as it arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The path of the request.
    pub(crate) path: String,
    /// All pairs of the query, decoded.
    pub(crate) query: Vec<(String, String)>,
}

/// The listener.
pub(crate) struct HttpService {
    /// The URL of its `current.json`.
    pub(crate) url: String,
    asked: Receiver<Asked>,
    gate: Gate,
}

type Gate = Arc<(Mutex<bool>, Condvar)>;

impl HttpService {
    /// Listens on a free port of loopback; `script` says what a city gets.
    pub(crate) fn listen(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/current.json", listener.local_addr().unwrap());
        let (sender, asked) = channel();
        let gate = Gate::default();
        let (script, inner_gate) = (Arc::new(script), Arc::clone(&gate));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, sender, gate) = (Arc::clone(&script), sender.clone(), Arc::clone(&inner_gate));
                std::thread::spawn(move || {
                    let (asked, stream) = read_request(stream);
                    let city = asked.query.iter().find(|(name, _)| name == "q").map(|(_, city)| city.clone());
                    // A test that does not look at the questions has dropped the other end.
                    let _ = sender.send(asked);
                    act(stream, &script(&city.unwrap_or_default()), &gate);
                });
            }
        });
        Self { url, asked, gate }
    }

    /// A service that knows the weather of every place.
    pub(crate) fn good() -> Self {
        Self::listen(|_| Reply::Whole(200, PARIS.to_owned()))
    }

    /// Waits for the next question.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("the bot asks the service")
    }

    /// Whether a question has come that no test has looked at.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.try_recv().is_ok()
    }

    /// Lets all answers at the gate through.
    pub(crate) fn open_gate(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

fn read_request(stream: TcpStream) -> (Asked, TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut header = String::new();
    while header != "\r\n" {
        header.clear();
        reader.read_line(&mut header).unwrap();
    }
    let target = first.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1\r\n")).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    (Asked { path: path.to_owned(), query }, reader.into_inner())
}

/// The client may be gone at any time, it has a time-out; so a failed write is no fault of the test.
fn act(mut stream: TcpStream, reply: &Reply, gate: &Gate) {
    match reply {
        Reply::Whole(status, body) => write_whole(&mut stream, *status, body),
        Reply::Redirect(place) => {
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        }
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(bytes.as_bytes());
        }
        Reply::BytesThenSilence(bytes) => {
            let _ = stream.write_all(bytes.as_bytes());
            // Waits for the client to close.
            let _ = stream.read(&mut [0]);
        }
        Reply::Dribble => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n");
            stream.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
            // The time-out of the read is the pause between two bytes; the end of the stream is the end of the client.
            while stream.write_all(b" ").is_ok() && stream.read(&mut [0]).is_err() {}
        }
        Reply::AtGate => {
            let open = gate.0.lock().unwrap();
            drop(gate.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
            write_whole(&mut stream, 200, PARIS);
        }
    }
}

fn write_whole(stream: &mut TcpStream, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n");
    let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
}
