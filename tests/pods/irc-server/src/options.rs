//! The command line: arguments, options, and their help. Nothing is opened or started here.

use std::time::Duration;

use clap::{CommandFactory, Parser, error::ErrorKind};

/// The longest password, in bytes: `PASS :` and the password have to fit one line of 512 bytes.
const LONGEST_PASSWORD: usize = 500;
/// The longest name and the longest password of the server operator, in bytes: `OPER`, both and the spaces between have
/// to fit one line of 512 bytes.
const LONGEST_CREDENTIAL: usize = 200;
/// The smallest send queue, in bytes: the greeting of a client has to fit.
const SMALLEST_QUEUE: usize = 8192;

/// The arguments of `irc-server`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "irc-server",
    version,
    about = "An IRC server for the test pods of the podwire project",
    long_about = "An IRC server for the test pods of the podwire project.\n\n\
        It serves one network of one server on IPv4 and IPv6: RFC 1459 and RFC 2812 with the numerics that present \
        clients expect, without services and TLS. Every client has to send the password (PASS) \
        before it registers. It needs no privileges, reads no file and writes none.",
    after_long_help = "\
The weather:
  A client sends WEATHER <city>, for example WEATHER New York. The client whose nick
  is bot gets the line WEATHER <nick> :<city>, for example WEATHER alice :New York,
  and answers with PRIVMSG or NOTICE to that nick. The asker is told in a NOTICE when
  no city was given, no bot is connected, or the bot does not answer in time.

Floods:
  A client may send 64 KiB at once and 32 KiB a second for ever, each line counted
  with 32 bytes more; what it sends beyond that is read later.

The server operator:
  With --oper-name and --oper-password, OPER <name> <password> makes a client server
  operator, who may KILL and WALLOPS; without them OPER is refused. Both are better
  given in the environment, where other users do not see them.

Text:
  Lines are UTF-8. Bytes that are not are replaced by U+FFFD, and control characters
  other than formatting and CTCP are removed, before anybody else sees them; the sender
  of the bytes gets a WARN.

Messages:
  Standard error has one line when the server listens, one for every client that
  joins and one for every client that leaves, one for every OPER; no passwords and no messages.

Exit status:
  0  ended by SIGTERM or SIGINT, or help or version was asked for
  1  the server could not start, for example because the port is taken
  2  the command line is wrong

Examples:
  irc-server 6667 sesame
  irc-server --ping-interval 30 --ping-timeout 15 6667 sesame
  irc-server 6667 -- -begins-with-a-dash"
)]
pub(crate) struct Options {
    /// The TCP port to listen on, 1 to 65535
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// The password that every client has to send with PASS: 1 to 500 bytes, no control characters
    pub(crate) password: String,
    /// The name of the server operator, 1 to 200 bytes without spaces
    #[arg(long, value_name = "NAME", env = "IRC_OPER_NAME", hide_env_values = true, requires = "oper_password")]
    pub(crate) oper_name: Option<String>,
    /// The password of the server operator, 1 to 200 bytes
    #[arg(long, value_name = "PASSWORD", env = "IRC_OPER_PASSWORD", hide_env_values = true, requires = "oper_name")]
    pub(crate) oper_password: Option<String>,
    /// Send a PING to a client that was silent for this long; may be a fraction
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub(crate) ping_interval: Duration,
    /// Drop a client that stays silent for this long after the PING; may be a fraction
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) ping_timeout: Duration,
    /// Drop a client that has not registered after this time; may be a fraction
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) registration_timeout: Duration,
    /// Give up a weather question that has no answer after this time; may be a fraction
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) weather_timeout: Duration,
    /// Drop a client for which more than this is waiting to be sent; at least 8192
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = queue_bytes)]
    pub(crate) send_queue: usize,
}

impl Options {
    /// Reads a command line, the name of the program first. The error has an exit status and, when it is one, the
    /// usage; it never repeats the password.
    pub(crate) fn read<I, T>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let options = Self::try_parse_from(arguments)?;
        // Not a parser of the argument: its error would repeat what was given.
        let credentials = options.operator().and_then(|(name, password)| fault_of_operator(name, password));
        if let Some(fault) = fault_of(&options.password).or(credentials) {
            return Err(Self::command().error(ErrorKind::ValueValidation, fault));
        }
        Ok(options)
    }

    /// Name and password of the server operator, when there is one.
    pub(crate) fn operator(&self) -> Option<(&str, &str)> {
        Some((self.oper_name.as_deref()?, self.oper_password.as_deref()?))
    }
}

fn fault_of(password: &str) -> Option<String> {
    if password.is_empty() {
        return Some("the password is empty; give 1 to 500 bytes".to_owned());
    }
    if password.len() > LONGEST_PASSWORD {
        let length = password.len();
        return Some(format!("the password has {length} bytes; {LONGEST_PASSWORD} fit in one line"));
    }
    if password.contains(char::is_control) {
        return Some("the password has a control character, which no client can send".to_owned());
    }
    None
}

fn fault_of_operator(name: &str, password: &str) -> Option<String> {
    for (what, text) in [("name", name), ("password", password)] {
        if text.is_empty() || text.len() > LONGEST_CREDENTIAL {
            let length = text.len();
            return Some(format!(
                "the {what} of the server operator has {length} bytes; give 1 to {LONGEST_CREDENTIAL}"
            ));
        }
        if text.contains(char::is_control) {
            return Some(format!(
                "the {what} of the server operator has a control character, which no client can send"
            ));
        }
    }
    if name.contains(' ') || name.starts_with(':') {
        return Some(
            "the name of the server operator has a space or a colon before, so that OPER cannot give it".to_owned(),
        );
    }
    None
}

fn seconds(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(365 * 24 * 60 * 60);
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if !duration.is_zero() && duration <= most => Ok(duration),
        _ => Err("seconds must be more than 0 and at most one year".to_owned()),
    }
}

fn queue_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes >= SMALLEST_QUEUE => Ok(bytes),
        _ => Err(format!("the send queue needs a number of bytes of at least {SMALLEST_QUEUE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use std::time::Duration;

    fn read(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::read([&["irc-server"], arguments].concat())
    }

    #[test]
    fn port_and_password_are_enough() {
        let options = read(&["6667", "sesame"]).unwrap();
        assert_eq!((options.port, options.password.as_str()), (6667, "sesame"));
        assert_eq!(options.weather_timeout, Duration::from_secs(10));
    }

    #[test]
    fn a_password_may_have_spaces_and_a_dash_before() {
        assert_eq!(read(&["6667", "open sesame"]).unwrap().password, "open sesame");
        assert_eq!(read(&["6667", "--", "-x"]).unwrap().password, "-x");
    }

    #[test]
    fn times_may_be_fractions_and_must_be_positive() {
        assert_eq!(read(&["--ping-interval", "0.25", "1", "x"]).unwrap().ping_interval, Duration::from_millis(250));
        for bad in ["0", "-1", "nan", "inf", "1e300", "soon", "1e-12"] {
            assert!(read(&["--ping-timeout", bad, "1", "x"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_that_no_client_can_send_is_refused_and_not_repeated() {
        let long = "s3cret".repeat(100);
        for bad in ["", "s3cret\r", "s3cret\u{9b}", &long] {
            let error = read(&["6667", bad]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_server_operator_has_a_name_and_a_password() {
        let options = read(&["--oper-name", "root", "--oper-password", "open sesame", "1", "x"]).unwrap();
        assert_eq!(options.operator(), Some(("root", "open sesame")));
        assert_eq!(read(&["1", "x"]).unwrap().operator(), None);
        for alone in [["--oper-name", "root"], ["--oper-password", "s3cret"]] {
            let error = read(&[alone[0], alone[1], "1", "x"]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn credentials_that_no_client_can_send_are_refused_and_not_repeated() {
        let long = "s3cret".repeat(40);
        for (name, password) in [
            ("", "s3cret"),
            ("root", ""),
            ("ro ot", "s3cret"),
            (":root", "s3cret"),
            ("root", "s3cret\n"),
            (&long, "s3cret"),
            ("root", &long),
        ] {
            let error = read(&["--oper-name", name, "--oper-password", password, "1", "x"]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{name:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_send_queue_holds_at_least_the_greeting() {
        assert!(read(&["--send-queue", "8191", "1", "x"]).is_err());
        assert_eq!(read(&["--send-queue", "8192", "1", "x"]).unwrap().send_queue, 8192);
    }
}
