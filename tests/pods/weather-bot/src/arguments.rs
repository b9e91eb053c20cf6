//! The command line and the environment, read and checked. Pure: both are handed in, nothing is printed.

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, value_parser};

use crate::address::ServerAddress;
use crate::api_key::ApiKey;
use crate::backoff::LONGEST_WAIT;
use crate::endpoint::{DEFAULT_ENDPOINT, Endpoint};
use crate::outgoing::PASSWORD_LIMIT;

/// The variable with the key of the weather API.
const KEY_VARIABLE: &str = "WEATHER_API_KEY";
/// The variable with the URL of the weather API.
const URL_VARIABLE: &str = "WEATHER_API_URL";

const ENVIRONMENT: &str = "\
Environment:
  WEATHER_API_KEY  the key of the weather API; required
  WEATHER_API_URL  the URL of its current.json, without a query
                   [default: https://api.weatherapi.com/v1/current.json]

The bot registers as `bot` and answers lines `WEATHER <nick> :<city>` of the server with private messages to <nick>. \
When the server is away, closes, or refuses the bot, it connects again after a wait that doubles up to 30 s. \
SIGTERM and SIGINT end it with exit code 0; a wrong command line or environment ends it with exit code 2.";

/// A test pod: an IRC bot that answers with the weather.
#[derive(Parser)]
#[command(name = "weather-bot", version, after_help = ENVIRONMENT)]
struct CommandLine {
    /// The IRC server: irc-server:6667, 10.1.2.3:6667 or [fd00::1]:6667
    #[arg(value_name = "HOST:PORT")]
    server: String,

    /// The password of the IRC server
    #[arg(value_name = "PASSWORD", allow_hyphen_values = true)]
    password: String,

    /// Milliseconds before the first new attempt after the server was lost; doubles up to 30 s [1 to 30000]
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = value_parser!(u64).range(1..=30_000))]
    first_wait: u64,

    /// Milliseconds that the server may take to accept the connection or a line, and be silent before it is pinged and,
    /// once more, before it is given up [50 to 600000]
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 30_000, value_parser = value_parser!(u64).range(50..=600_000))]
    silence: u64,

    /// Milliseconds that the weather API has for one question [50 to 8500]; the IRC server gives up after 10 s
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 8000, value_parser = value_parser!(u64).range(50..=8500))]
    answer_limit: u64,
}

/// Everything that the bot is told at its start.
pub(crate) struct Settings {
    /// The IRC server.
    pub(crate) server: ServerAddress,
    /// The IRC server's password; fits into one line and has no control characters.
    pub(crate) password: String,
    /// The URL of the weather API.
    pub(crate) endpoint: Endpoint,
    /// The key of the weather API.
    pub(crate) key: ApiKey,
    /// The wait before the first new attempt.
    pub(crate) first_wait: Duration,
    /// The span that the server may take to accept the connection or a line, and be silent before it is pinged and,
    /// once more, before it is given up.
    pub(crate) silence: Duration,
    /// What the HTTP client has for one question.
    pub(crate) answer_limit: Duration,
}

/// Reads the arguments, the program's name first, and the environment through `variable`. The error prints itself with
/// the usage; it also stands for `--help` and `--version`, which `use_stderr` tells apart. No error repeats the
/// password, the key or the URL.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Settings, clap::Error> {
    let CommandLine { server, password, first_wait, silence, answer_limit } =
        CommandLine::try_parse_from(arguments).map_err(with_usage)?;
    let server = server.parse().map_err(|error| refusal(ErrorKind::ValueValidation, error))?;
    check_password(&password).map_err(|reason| refusal(ErrorKind::ValueValidation, reason))?;
    let key = read_key(variable(KEY_VARIABLE)).map_err(|(kind, reason)| refusal(kind, reason))?;
    let endpoint =
        read_endpoint(variable(URL_VARIABLE)).map_err(|reason| refusal(ErrorKind::ValueValidation, reason))?;
    Ok(Settings {
        server,
        password,
        endpoint,
        key,
        first_wait: Duration::from_millis(first_wait).min(LONGEST_WAIT),
        silence: Duration::from_millis(silence),
        answer_limit: Duration::from_millis(answer_limit),
    })
}

/// Changes what the parser of the command line says where it would tell too much or too little.
fn with_usage(error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument {
        // The parser would repeat the text, which is the rest of a password that was not quoted.
        return refusal(error.kind(), "there is an unknown option or more than one <HOST:PORT> and one <PASSWORD>");
    }
    let text = error.to_string();
    if !error.use_stderr() || text.contains("Usage:") {
        return error;
    }
    // A wrong value of an option is told without the usage.
    let reason = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ").to_owned();
    refusal(error.kind(), reason)
}

fn refusal(kind: ErrorKind, reason: impl std::fmt::Display) -> clap::Error {
    CommandLine::command().error(kind, reason)
}

fn check_password(password: &str) -> Result<(), String> {
    if password.is_empty() {
        return Err("<PASSWORD> is empty: give the password of the IRC server".to_owned());
    }
    if password.chars().any(char::is_control) {
        return Err("<PASSWORD> holds a line end or another control character, which no IRC line can carry".to_owned());
    }
    if password.len() > PASSWORD_LIMIT {
        return Err(format!("<PASSWORD> has more than {PASSWORD_LIMIT} bytes, which no IRC line can carry"));
    }
    Ok(())
}

fn read_key(value: Option<OsString>) -> Result<ApiKey, (ErrorKind, String)> {
    let value = value.filter(|value| !value.is_empty()).ok_or_else(|| {
        let reason = format!("{KEY_VARIABLE} is not set or empty: set it to the key of the weather API");
        (ErrorKind::MissingRequiredArgument, reason)
    })?;
    value.into_string().ok().and_then(ApiKey::new).ok_or_else(|| {
        let reason =
            format!("{KEY_VARIABLE} holds a space, a line end or a byte that is no UTF-8: set it to the key alone");
        (ErrorKind::ValueValidation, reason)
    })
}

fn read_endpoint(value: Option<OsString>) -> Result<Endpoint, String> {
    let value = value.unwrap_or_else(|| DEFAULT_ENDPOINT.into());
    let text = value.into_string().map_err(|_| format!("{URL_VARIABLE} is no UTF-8 text"))?;
    Endpoint::parse(&text).map_err(|reason| {
        format!("{URL_VARIABLE} is malformed, {reason}: set it as in {DEFAULT_ENDPOINT} or leave it unset")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "s3cret-pass";
    const KEY: &str = "0a1b2c3d";

    /// Reads with a good environment that `changes` overwrites; an empty change unsets the variable.
    fn read_with(arguments: &[&str], changes: &[(&str, Option<&str>)]) -> Result<Settings, clap::Error> {
        let all = std::iter::once("weather-bot").chain(arguments.iter().copied()).map(OsString::from);
        read(all, |name| match changes.iter().find(|(changed, _)| *changed == name) {
            Some((_, value)) => value.map(OsString::from),
            None => (name == KEY_VARIABLE).then(|| KEY.into()),
        })
    }

    fn refused(arguments: &[&str], changes: &[(&str, Option<&str>)]) -> String {
        let Err(error) = read_with(arguments, changes) else { panic!("{arguments:?} with {changes:?} is taken") };
        let text = error.to_string();
        assert!(error.use_stderr() && error.exit_code() == 2, "{text}");
        assert!(text.contains("Usage: weather-bot"), "{text}");
        assert!(!text.contains(PASSWORD) && !text.contains(KEY), "{text}");
        text
    }

    #[test]
    fn the_documented_defaults_hold() {
        let settings = read_with(&["irc-server:6667", PASSWORD], &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.server.to_string(), "irc-server:6667");
        assert_eq!(settings.password, PASSWORD);
        assert_eq!(settings.key.reveal(), KEY);
        assert_eq!(settings.endpoint, Endpoint::parse(DEFAULT_ENDPOINT).unwrap());
        let spans = [settings.first_wait, settings.silence, settings.answer_limit];
        assert_eq!(spans, [1, 30, 8].map(Duration::from_secs));
        assert!(ENVIRONMENT.contains(DEFAULT_ENDPOINT));
    }

    #[test]
    fn a_password_may_begin_with_a_hyphen() {
        let settings = read_with(&["irc-server:6667", "-pass"], &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.password, "-pass");
    }

    #[test]
    fn a_missing_or_empty_key_is_refused() {
        for value in [None, Some("")] {
            let text = refused(&["irc-server:6667", PASSWORD], &[(KEY_VARIABLE, value)]);
            assert!(text.contains("WEATHER_API_KEY is not set or empty"), "{text}");
        }
        let text = refused(&["irc-server:6667", PASSWORD], &[(KEY_VARIABLE, Some("0a1b2c3d\n"))]);
        assert!(text.contains("WEATHER_API_KEY holds a space"), "{text}");
    }

    #[test]
    fn a_malformed_url_is_refused_without_its_text() {
        let text = refused(&["irc-server:6667", PASSWORD], &[(URL_VARIABLE, Some("http://w/?key=0a1b2c3d"))]);
        assert!(text.contains("WEATHER_API_URL is malformed, it holds a query"), "{text}");
        let text = refused(&["irc-server:6667", PASSWORD], &[(URL_VARIABLE, Some(""))]);
        assert!(text.contains("WEATHER_API_URL is malformed, it is no URL"), "{text}");
    }

    #[test]
    fn bad_arguments_are_refused_without_repeating_the_password() {
        let long = "p".repeat(PASSWORD_LIMIT + 1);
        for (arguments, reason) in [
            (&[][..], "required arguments were not provided"),
            (&["irc-server:6667"], "<PASSWORD>"),
            (&[PASSWORD, "irc-server:6667"], "<HOST:PORT> has no port"),
            (&["irc-server:6667", "two", PASSWORD], "more than one <HOST:PORT>"),
            (&["--unknown", "irc-server:6667", PASSWORD], "unknown option"),
            (&["irc-server:6667", ""], "<PASSWORD> is empty"),
            (&["irc-server:6667", "s3cret-pass\r\nQUIT"], "<PASSWORD> holds a line end"),
            (&["irc-server:6667", &long], "<PASSWORD> has more than"),
            (&["--answer-limit=8501", "irc-server:6667", PASSWORD], "--answer-limit"),
            (&["--first-wait=0", "irc-server:6667", PASSWORD], "--first-wait"),
        ] {
            let text = refused(arguments, &[]);
            assert!(text.contains(reason), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors_and_need_no_environment() {
        for option in ["--help", "--version"] {
            let Err(error) = read_with(&[option], &[(KEY_VARIABLE, None)]) else { panic!("{option} starts the bot") };
            assert!(!error.use_stderr(), "{option}");
        }
        let Err(help) = read_with(&["--help"], &[]) else { panic!("--help starts the bot") };
        for word in [KEY_VARIABLE, URL_VARIABLE, "--first-wait", "--silence", "--answer-limit"] {
            assert!(help.to_string().contains(word), "{word}");
        }
    }
}
