//! A reply of the Kubernetes API, read up to a limit: a page as a whole, a watch line by line. kube itself reads errors, lines
//! and pages without one.
//!
//! What may not live here: what is in a reply.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http_body::Body as _;
use kube::Client;
use kube::client::Body;
use kube::core::Status;

/// The longest text of an error that is read, in bytes.
const LONGEST_ERROR: usize = 64 * 1024;

/// Why a reply could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// The API, or the way to it.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It is more than is read.
    #[error("{what} has more than {limit}, the most that is read")]
    TooMuch {
        /// What it is.
        what: &'static str,
        /// The limit, with its unit.
        limit: String,
    },
}

impl Unread {
    pub(super) fn too_long(what: &'static str, bytes: usize) -> Self {
        Self::TooMuch { what, limit: format!("{bytes} bytes") }
    }
}

/// A reply that has begun.
pub(super) struct Reply {
    body: Body,
    /// What has come and was not taken.
    rest: Vec<u8>,
    /// How much of it has no line break.
    searched: usize,
}

impl Reply {
    /// Asks, and waits for the beginning of the reply.
    ///
    /// # Errors
    /// Where the API answers with an error, that one.
    pub(super) async fn of(client: &Client, mut request: http::Request<Vec<u8>>) -> Result<Self, Unread> {
        // Compressed watches are not decoded to their end (as kube's `request_events` says), and a small body may be a large text.
        request.headers_mut().entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        let (head, body) = client.send(request.map(Body::from)).await?.into_parts();
        let reply = Self { body, rest: Vec::new(), searched: 0 };
        if !(head.status.is_client_error() || head.status.is_server_error()) {
            return Ok(reply);
        }
        let mut text = Vec::new();
        // Of an error without an end the beginning is enough.
        let _ = reply.whole(&mut text, "an error", LONGEST_ERROR).await;
        let status = serde_json::from_slice::<Status>(&text).ok().filter(|status| status.code != 0);
        let status = status.unwrap_or_else(|| {
            // Of a proxy on the way, say.
            let text = String::from_utf8_lossy(&text);
            Status::failure(text.trim(), "Failed to parse error data").with_code(head.status.as_u16())
        });
        Err(kube::Error::Api(status.boxed()).into())
    }

    /// Reads all of it into a buffer, which is emptied before.
    ///
    /// # Errors
    /// When it breaks off, or is longer than `limit` bytes: the buffer then has its beginning.
    pub(super) async fn whole(mut self, text: &mut Vec<u8>, what: &'static str, limit: usize) -> Result<(), Unread> {
        text.clear();
        while let Some(bytes) = self.next().await? {
            let room = limit - text.len();
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if bytes.len() > room {
                return Err(Unread::too_long(what, limit));
            }
        }
        Ok(())
    }

    /// The next line, without its end; nothing where there is no whole one any more.
    ///
    /// # Errors
    /// When the reply breaks off, or the line is longer than `limit` bytes.
    pub(super) async fn line(&mut self, what: &'static str, limit: usize) -> Result<Option<Vec<u8>>, Unread> {
        loop {
            if let Some(end) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
                let end = self.searched + end;
                let mut line = self.rest.split_off(end + 1);
                std::mem::swap(&mut line, &mut self.rest);
                line.truncate(end);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.rest.len();
            if self.rest.len() > limit {
                return Err(Unread::too_long(what, limit));
            }
            match self.next().await? {
                Some(bytes) => self.rest.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Unread> {
        loop {
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                None => return Ok(None),
                Some(frame) => {
                    // Trailers have no data.
                    if let Ok(bytes) = frame?.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}
