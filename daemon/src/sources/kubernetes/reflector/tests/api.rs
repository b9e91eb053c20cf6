//! An API server in memory: it gives the answers that a test has written, one for each request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::time::Instant;
use tower_service::Service;

/// What is sent, and whether the connection stays open behind it.
#[derive(Debug)]
pub(super) struct Answer {
    /// `None` for a server that never answers.
    code: Option<u16>,
    body: Text,
}

/// A body that is sent at once, and that ends, or does not.
#[derive(Debug)]
pub(super) struct Text {
    text: Option<Bytes>,
    ends: bool,
    repeats: bool,
}

impl Answer {
    pub(super) fn whole(code: u16, text: String) -> Self {
        Self { code: Some(code), body: Text { text: Some(text.into()), ends: true, repeats: false } }
    }

    /// Nothing comes after the text, not even the end.
    pub(super) fn silent(code: u16, text: String) -> Self {
        Self { code: Some(code), body: Text { text: Some(text.into()), ends: false, repeats: false } }
    }

    /// The text again and again, without end.
    pub(super) fn endless(code: u16, text: String) -> Self {
        Self { code: Some(code), body: Text { text: Some(text.into()), ends: false, repeats: true } }
    }

    pub(super) fn never() -> Self {
        Self { code: None, body: Text { text: None, ends: true, repeats: false } }
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match if self.repeats { self.text.clone() } else { self.text.take() } {
            Some(text) => Poll::Ready(Some(Ok(Frame::data(text)))),
            None if self.ends => Poll::Ready(None),
            // No reader is woken, as on a connection whose other end is gone.
            None => Poll::Pending,
        }
    }
}

/// The server.
#[derive(Debug, Clone)]
pub(super) struct Api {
    start: Instant,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Api {
    pub(super) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
        Self { start: Instant::now(), answers, asked: Arc::default() }
    }

    /// The path and query of each request, with the second in which it came.
    pub(super) fn asked(&self) -> Vec<(u64, String)> {
        self.asked.lock().unwrap().clone()
    }
}

impl<B> Service<Request<B>> for Api {
    type Response = Response<Text>;
    type Error = Infallible;
    type Future = futures_util::future::Either<Ready<Result<Self::Response, Infallible>>, Never>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.asked.lock().unwrap().push((self.start.elapsed().as_secs(), request.uri().to_string()));
        let answer = self.answers.lock().unwrap().pop_front().expect("an answer for each request");
        match answer.code {
            None => futures_util::future::Either::Right(pending()),
            Some(code) => {
                let response = Response::builder().status(code).body(answer.body).expect("a response");
                futures_util::future::Either::Left(ready(Ok(response)))
            }
        }
    }
}

/// A response that never comes.
type Never = std::future::Pending<Result<Response<Text>, Infallible>>;
