//! The desk that takes questions: it bounds their number and their time, and keeps the blocking calls away from the
//! conversation with the IRC server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use crate::JOURNAL;
use crate::failure::Failure;
use crate::outgoing::privmsg;
use crate::question::Question;
use crate::weather_api::WeatherApi;

/// How many questions are asked of the API at once; each holds a thread.
pub(crate) const QUESTIONS_AT_ONCE: usize = 8;

/// What the asker waits beyond the HTTP client's own limit, in case that the client keeps it badly.
const GRACE: Duration = Duration::from_millis(300);

/// A finished answer: the IRC lines, ready to be sent in one piece.
pub(crate) type Answer = String;

/// Takes questions for one API. It outlives the sessions, so that reconnecting cannot multiply the threads.
pub(crate) struct Desk {
    api: Arc<WeatherApi>,
    places: Arc<Semaphore>,
    limit: Duration,
}

impl Desk {
    /// `limit` is the HTTP client's limit for one question.
    pub(crate) fn new(api: WeatherApi, limit: Duration) -> Self {
        Self { api: Arc::new(api), places: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE)), limit: limit + GRACE }
    }

    /// Begins to ask and returns at once; the answer comes through `answers`. When all places are taken the result is
    /// the refusal, to be sent to the asker instead.
    pub(crate) fn take(&self, question: Question, answers: mpsc::Sender<Answer>) -> Result<(), Answer> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            JOURNAL.say(format_args!("{} is told that {QUESTIONS_AT_ONCE} questions are open", question.nick));
            let refusal = format!("{QUESTIONS_AT_ONCE} questions are open already, ask again in a few seconds.");
            return Err(privmsg(&question.nick, &refusal));
        };
        let api = Arc::clone(&self.api);
        let limit = self.limit;
        tokio::spawn(async move {
            let city = question.city.clone();
            let call = tokio::task::spawn_blocking(move || {
                // The place is given back when the thread is free, not when the asker has waited long enough.
                let _place = place;
                api.ask(&city)
            });
            let outcome = match tokio::time::timeout(limit, call).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(Failure::Unreachable { detail: "the bot's own call failed".to_owned() }),
                Err(_) => Err(Failure::TimedOut),
            };
            let (lines, told) = match outcome {
                Ok(report) => (report.lines(), "told the weather".to_owned()),
                Err(failure) => {
                    let sentence = failure.sentence(&question.city);
                    (vec![sentence.clone()], format!("told: {sentence}"))
                }
            };
            let answer = lines.iter().map(|line| privmsg(&question.nick, line)).collect();
            // The other end is gone when the session is over; the server has forgotten the question by then.
            match answers.send(answer).await {
                Ok(()) => JOURNAL.say(format_args!("{} asked for {} and is {told}", question.nick, question.city)),
                Err(_) => JOURNAL.say(format_args!(
                    "{} asked for {}, but the connection is gone and the answer is dropped",
                    question.nick, question.city
                )),
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::api_key::ApiKey;
    use crate::endpoint::Endpoint;

    #[tokio::test]
    async fn a_call_that_keeps_no_limit_is_answered_for_and_still_holds_its_place() {
        // The kernel accepts for this listener, and nobody ever answers; the call ends when the listener is dropped.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::parse(&format!("http://{}/", silent.local_addr().unwrap())).unwrap();
        let key = ApiKey::new("0a1b".to_owned()).unwrap();
        let desk = Desk::new(WeatherApi::new(endpoint, key, Duration::from_secs(60)), Duration::ZERO);
        let (sender, mut answers) = mpsc::channel(1);
        let question = Question { nick: "alice".to_owned(), city: "Paris".to_owned() };
        assert_eq!(desk.take(question, sender), Ok(()));
        let answer = tokio::time::timeout(Duration::from_secs(10), answers.recv()).await.unwrap().unwrap();
        assert!(answer.starts_with("PRIVMSG alice :No weather for Paris: "), "{answer}");
        assert!(answer.contains("did not answer in time"), "{answer}");
        assert_eq!(desk.places.available_permits(), QUESTIONS_AT_ONCE - 1);
    }
}
