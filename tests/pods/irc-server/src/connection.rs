//! The task of one client: bytes from its socket become events, lines from its queue become bytes. What they mean is
//! not known here.

use std::{io, pin::pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use crate::{
    allowance::Allowance,
    frame::{Frame, Framer},
    hub::Input,
    queue::QueueReceiver,
    server::{ClientId, Event},
    text,
};

/// How long the last lines of a connection may take to go out.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long a closed connection still swallows what the client sends, so that a reset does not overtake the last lines.
const LINGER: Duration = Duration::from_secs(1);
/// How much is read at once, in bytes.
const READ_SIZE: usize = 4096;

/// Serves one connection until the client ends it, it breaks, or the owner of the server drops the queue's other end
/// together with the sender of `open`.
pub(crate) async fn serve(
    client: ClientId,
    stream: TcpStream,
    queue: QueueReceiver,
    open: oneshot::Receiver<()>,
    inputs: mpsc::Sender<Input>,
) {
    let (mut reader, writer) = stream.into_split();
    let mut writing = pin!(write_lines(queue, writer));
    let written = tokio::select! {
        reason = read_lines(client, &mut reader, &inputs) => {
            report(client, reason, &inputs).await;
            timeout(LAST_LINES, writing).await
        }
        // The sender is dropped, never used: the owner has let go of this client.
        _ = open => timeout(LAST_LINES, writing).await,
        written = &mut writing => Ok(written),
    };
    match written {
        Ok(Ok(_writer)) => {
            let _patience = timeout(LINGER, swallow(&mut reader)).await;
        }
        Ok(Err(_)) => report(client, "Write error", &inputs).await,
        // A client that neither takes its last lines nor ends the connection loses both.
        Err(_) => {}
    }
}

async fn report(client: ClientId, reason: &'static str, inputs: &mpsc::Sender<Input>) {
    // The owner of the server ends before its clients only when the process ends.
    let _ended = inputs.send(Input::Client(Event::Gone { client, reason })).await;
}

/// Reads until the connection ends, and gives the reason.
async fn read_lines(client: ClientId, reader: &mut OwnedReadHalf, inputs: &mpsc::Sender<Input>) -> &'static str {
    let mut framer = Framer::default();
    let (began, mut allowance) = (Instant::now(), Allowance::full());
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) => return "Connection closed",
            Ok(count) => count,
            Err(error) => return reason_of(&error),
        };
        let frames = framer.push(&buffer[..count]);
        let lines = frames.len();
        for frame in frames {
            let event = match frame {
                Frame::Line(line) => Event::Line { client, text: text::clean(&line) },
                Frame::TooLong => Event::LineTooLong { client },
            };
            // Waiting here is what slows down a client that sends faster than the server works.
            if inputs.send(Input::Client(event)).await.is_err() {
                return "The server ends";
            }
        }
        // A flood stays with the client that sends it: its bytes wait in its own socket.
        sleep(allowance.take(began.elapsed(), count, lines)).await;
    }
}

fn reason_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "Connection reset",
        io::ErrorKind::TimedOut => "Connection timed out",
        _ => "Read error",
    }
}

/// Writes until the queue ends or the connection breaks, then ends the sending direction.
async fn write_lines(mut queue: QueueReceiver, mut writer: OwnedWriteHalf) -> io::Result<OwnedWriteHalf> {
    while let Some(bytes) = queue.next().await {
        writer.write_all(&bytes).await?;
        queue.sent(bytes.len());
    }
    writer.shutdown().await?;
    Ok(writer)
}

async fn swallow(reader: &mut OwnedReadHalf) {
    let mut buffer = vec![0; READ_SIZE];
    while matches!(reader.read(&mut buffer).await, Ok(count) if count > 0) {}
}

#[cfg(test)]
mod tests {
    use super::serve;
    use crate::{
        hub::Input,
        line::Line,
        queue::queue,
        server::{ClientId, Event},
    };
    use std::time::Duration;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        sync::{mpsc, oneshot},
        time::Instant,
    };

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_read_at_the_rate_that_is_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (sender, receiver) = queue(usize::MAX);
        let (open, opened) = oneshot::channel();
        let (inputs, mut waiting) = mpsc::channel(1);
        let began = Instant::now();
        let flood = tokio::spawn(async move {
            client.write_all(&b"PING :x\r\n".repeat(64 * 1024)).await.unwrap();
        });
        let serving = tokio::spawn(serve(ClientId(1), stream, receiver, opened, inputs));
        let mut lines = 0;
        while waiting.recv().await.is_some_and(|input| matches!(input, Input::Client(Event::Line { .. }))) {
            lines += 1;
        }
        drop((sender, open));
        assert_eq!(lines, 64 * 1024);
        flood.await.unwrap();
        // Nine bytes and 32 for the line each are 2624 KiB: 64 KiB at once, and 80 seconds for the others.
        assert!(began.elapsed() >= Duration::from_secs(79), "{:?}", began.elapsed());
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_soon_after_the_close() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (sender, receiver) = queue(usize::MAX);
        // More than the kernel takes for one connection.
        let line = Line::new(&"x".repeat(510));
        for _ in 0..30_000 {
            sender.push(line.clone()).unwrap();
        }
        let (open, opened) = oneshot::channel();
        let (inputs, _waiting) = mpsc::channel(1);
        drop((sender, open));
        let began = Instant::now();
        serve(ClientId(1), stream, receiver, opened, inputs).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
