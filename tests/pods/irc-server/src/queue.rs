//! The send queue of one client: lines that wait for the network, bounded in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::line::Line;

/// How many lines are handed to the network in one write at most.
const LINES_PER_WRITE: usize = 64;

/// The end of the queue into which the owner of the server puts lines. Dropping it ends the queue after them.
#[derive(Debug)]
pub(crate) struct QueueSender {
    lines: UnboundedSender<Line>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// The end of the queue from which the task of the client takes lines.
#[derive(Debug)]
pub(crate) struct QueueReceiver {
    lines: UnboundedReceiver<Line>,
    waiting: Arc<AtomicUsize>,
}

/// The line does not fit: the client reads too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// Makes a queue in which at most `limit` bytes wait. Bytes wait until the kernel has taken them.
pub(crate) fn queue(limit: usize) -> (QueueSender, QueueReceiver) {
    let (sender, receiver) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (QueueSender { lines: sender, waiting: Arc::clone(&waiting), limit }, QueueReceiver { lines: receiver, waiting })
}

impl QueueSender {
    /// Queues a line, or says that it would exceed the limit. A queue whose reader has ended takes everything and
    /// keeps nothing: the end of the connection is on its way as an event.
    pub(crate) fn push(&self, line: Line) -> Result<(), QueueFull> {
        let length = line.as_bytes().len();
        // Only this end adds, so the sum cannot grow between the look and the addition.
        if self.waiting.load(Ordering::Relaxed) + length > self.limit {
            return Err(QueueFull);
        }
        if self.lines.send(line).is_ok() {
            self.waiting.fetch_add(length, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl QueueReceiver {
    /// Waits for lines and gives the bytes of some of them; `None` when the queue has ended. The bytes go on waiting
    /// until [`QueueReceiver::sent`] is told.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        if self.lines.recv_many(&mut lines, LINES_PER_WRITE).await == 0 {
            return None;
        }
        Some(lines.iter().flat_map(|line| line.as_bytes()).copied().collect())
    }

    /// Notes that bytes have been handed to the kernel.
    pub(crate) fn sent(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{QueueFull, queue};
    use crate::line::Line;

    #[tokio::test]
    async fn the_limit_counts_bytes_until_they_are_sent() {
        let (sender, mut receiver) = queue(20);
        let line = Line::new("12345678");
        assert_eq!((sender.push(line.clone()), sender.push(line.clone())), (Ok(()), Ok(())));
        assert_eq!(sender.push(Line::new("")), Err(QueueFull));
        let bytes = receiver.next().await.unwrap();
        assert_eq!(bytes, b"12345678\r\n12345678\r\n");
        assert_eq!(sender.push(Line::new("")), Err(QueueFull));
        receiver.sent(bytes.len());
        assert_eq!(sender.push(line), Ok(()));
    }

    #[tokio::test]
    async fn the_queue_ends_after_its_last_line() {
        let (sender, mut receiver) = queue(20);
        sender.push(Line::new("last")).unwrap();
        drop(sender);
        assert_eq!(receiver.next().await.unwrap(), b"last\r\n");
        assert_eq!(receiver.next().await, None);
    }

    #[test]
    fn a_queue_without_a_reader_keeps_nothing() {
        let (sender, receiver) = queue(20);
        drop(receiver);
        for _ in 0..10 {
            assert_eq!(sender.push(Line::new("1234567890")), Ok(()));
        }
    }
}
