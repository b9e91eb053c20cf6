//! The weather API over HTTP: one blocking call for one question. What the answer means stands in `answer`.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use crate::answer;
use crate::api_key::ApiKey;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::outgoing::clean;
use crate::report::Report;

/// The longest body in bytes that is read; the service's answers have about 1500.
const BODY_LIMIT: u64 = 64 * 1024;

/// The client of one endpoint with one key.
pub(crate) struct WeatherApi {
    agent: Agent,
    endpoint: Endpoint,
    key: ApiKey,
}

impl WeatherApi {
    /// Prepares the client; nothing is sent yet. `limit` bounds a whole question, from the resolution of the name to
    /// the last byte of the answer.
    pub(crate) fn new(endpoint: Endpoint, key: ApiKey, limit: Duration) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(limit))
            // The status is read together with the body, which holds the API's own message.
            .http_status_as_error(false)
            // A redirection would carry the key to a host that nobody named.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A proxy from the environment would hide the pod's own way to the outside, which this bot is to show.
            .proxy(None)
            // Questions are rare; a connection that has been idle for long only adds a way to fail.
            .max_idle_connections(0)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::WebPki).build())
            .user_agent(concat!("weather-bot/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .build()
            .new_agent();
        Self { agent, endpoint, key }
    }

    /// Asks for the weather of `city` and waits for the answer. Neither the report nor the failure holds the key or a
    /// control character.
    pub(crate) fn ask(&self, city: &str) -> Result<Report, Failure> {
        // Cleaning goes first: a control character inside of a repeated key would hide it from the search.
        let tell = |text: &str| self.key.hide_in(&clean(text));
        match self.call(city) {
            Ok(report) => Ok(Report {
                name: tell(&report.name),
                country: tell(&report.country),
                condition: tell(&report.condition),
                ..report
            }),
            Err(failure) => Err(failure.map_texts(tell)),
        }
    }

    fn call(&self, city: &str) -> Result<Report, Failure> {
        let mut response = self
            .agent
            .get(self.endpoint.uri())
            .query("key", self.key.reveal())
            .query("q", city)
            .call()
            .map_err(failure)?;
        let body = response.body_mut().with_config().limit(BODY_LIMIT).read_to_vec().map_err(failure)?;
        answer::read(response.status().as_u16(), &body)
    }
}

/// The client library's error in the bot's words. The text of an error that may hold the URL, and so the key, is not
/// taken over.
fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::TimedOut,
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Failure::ConnectionRefused,
            ErrorKind::TimedOut => Failure::TimedOut,
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::BrokenOff,
            _ => Failure::Unreachable { detail: error.to_string() },
        },
        ureq::Error::HostNotFound => unreachable("its name has no address"),
        ureq::Error::Tls(detail) => unreachable(detail),
        ureq::Error::Rustls(error) => Failure::Unreachable { detail: format!("TLS: {error}") },
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => unreachable("its answer is not HTTP"),
        ureq::Error::BodyExceedsLimit(_) => unreachable("its answer is too long"),
        _ => unreachable("the HTTP client gave up"),
    }
}

fn unreachable(detail: &str) -> Failure {
    Failure::Unreachable { detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_errors_of_the_system_are_distinguished() {
        for (kind, expected) in [
            (ErrorKind::TimedOut, Failure::TimedOut),
            (ErrorKind::ConnectionRefused, Failure::ConnectionRefused),
            (ErrorKind::UnexpectedEof, Failure::BrokenOff),
            (ErrorKind::ConnectionReset, Failure::BrokenOff),
            (ErrorKind::BrokenPipe, Failure::BrokenOff),
        ] {
            assert_eq!(failure(ureq::Error::Io(kind.into())), expected, "{kind}");
        }
        let error = ureq::Error::Io(io::Error::other("no route"));
        assert_eq!(failure(error), Failure::Unreachable { detail: "no route".to_owned() });
        assert_eq!(
            failure(ureq::Error::HostNotFound),
            Failure::Unreachable { detail: "its name has no address".to_owned() }
        );
    }

    #[test]
    fn an_error_that_has_the_url_is_logged_without_it() {
        let error = ureq::Error::BadUri("http://weather/?key=0a1b".to_owned());
        assert_eq!(failure(error), Failure::Unreachable { detail: "the HTTP client gave up".to_owned() });
    }
}
