//! The one owner of the server state: takes the inputs of all tasks in turn, and carries out the effects.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    connection, listener,
    log::Log,
    queue::{QueueSender, queue},
    server::{ClientId, Effect, Event, Server, Settings},
};

/// How many inputs may wait for the owner before those who send them have to wait.
const WAITING_INPUTS: usize = 256;
/// How often time-outs are looked for; they are late by this much at most.
const TICK: Duration = Duration::from_millis(100);
/// How long accepting pauses after an error: with no file descriptor left the next try would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long the end of the process waits for the last lines to its clients.
const LAST_LINES: Duration = Duration::from_millis(300);

/// What reaches the owner.
#[derive(Debug)]
pub(crate) enum Input {
    /// A connection was accepted.
    Accepted(TcpStream, SocketAddr),
    /// A connection could not be accepted.
    NotAccepted(io::Error),
    /// Something happened to a client.
    Client(Event),
}

/// What the owner holds of a connection. Dropping it lets the connection end after its queued lines.
#[derive(Debug)]
struct Connection {
    queue: QueueSender,
    _open: oneshot::Sender<()>,
}

/// The owner.
#[derive(Debug)]
pub(crate) struct Hub {
    server: Server,
    connections: HashMap<ClientId, Connection>,
    tasks: JoinSet<()>,
    log: Log,
    send_queue: usize,
    began: Instant,
    last_number: u64,
}

impl Hub {
    /// An owner without clients; each client's queue holds `send_queue` bytes.
    pub(crate) fn new(settings: Settings, send_queue: usize, log: Log) -> Self {
        Self {
            server: Server::new(settings),
            connections: HashMap::new(),
            tasks: JoinSet::new(),
            log,
            send_queue,
            began: Instant::now(),
            last_number: 0,
        }
    }

    /// Serves until `end` is ready, then says goodbye to the clients.
    pub(crate) async fn run(mut self, listener: TcpListener, end: impl Future<Output = &'static str>) {
        let (inputs, mut waiting) = mpsc::channel(WAITING_INPUTS);
        let accepting = tokio::spawn(accept(listener, inputs.clone()));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(end);
        let signal = loop {
            tokio::select! {
                signal = &mut end => break signal,
                _ = ticks.tick() => self.handle(Event::Tick),
                // A task that panicked has been reported by the runtime; its client is timed out like any silent one.
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                // This end holds a sender as well, so there is always a next input.
                Some(input) = waiting.recv() => self.take(input, &inputs),
            }
        };
        accepting.abort();
        drop(waiting);
        self.log.say(&format!("ends on {signal}"));
        self.handle(Event::Shutdown);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        // Clients that do not take their last lines in time do not keep the process.
        let _late = timeout(LAST_LINES, all_ended).await;
        self.log.finish();
    }

    fn take(&mut self, input: Input, inputs: &mpsc::Sender<Input>) {
        match input {
            Input::Accepted(stream, peer) => self.admit(stream, peer, inputs),
            Input::NotAccepted(error) => self.log.say(&format!("cannot accept a connection: {error}")),
            Input::Client(event) => self.handle(event),
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, inputs: &mpsc::Sender<Input>) {
        if let Err(error) = stream.set_nodelay(true) {
            self.log.say(&format!("cannot turn off the delay of small packets for {}: {error}", peer.ip()));
        }
        self.last_number += 1;
        let client = ClientId(self.last_number);
        let (sender, receiver) = queue(self.send_queue);
        let (open, opened) = oneshot::channel();
        self.tasks.spawn(connection::serve(client, stream, receiver, opened, inputs.clone()));
        self.connections.insert(client, Connection { queue: sender, _open: open });
        self.handle(Event::Connected { client, host: listener::host(peer.ip()) });
    }

    fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        // Carrying out an effect may show a slow reader, which is an event. The server knows nothing of a client after
        // its first such event, so this ends.
        while let Some(event) = events.pop() {
            for effect in self.server.handle(self.began.elapsed(), event) {
                events.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Send { client, line } => {
                let connection = self.connections.get(&client)?;
                // The server answers with a close, in which the connection gets a moment for what already waits.
                let fits = connection.queue.push(line).is_ok();
                return (!fits).then_some(Event::Gone { client, reason: "Send queue exceeded" });
            }
            Effect::Close { client } => drop(self.connections.remove(&client)),
            Effect::Log(sentence) => self.log.say(&sentence),
        }
        None
    }
}

async fn accept(listener: TcpListener, inputs: mpsc::Sender<Input>) {
    loop {
        let input = match listener.accept().await {
            Ok((stream, peer)) => Input::Accepted(stream, peer),
            Err(error) => {
                sleep(ACCEPT_PAUSE).await;
                Input::NotAccepted(error)
            }
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}
