//! The command line, read and checked. Pure: the arguments are handed in, nothing is printed.

use std::ffi::OsString;
use std::net::SocketAddr;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

const EXAMPLES: &str = "\
Questions: GET /v1/current.json?key=KEY&q=CITY, as for weatherapi.com. The known cities are Berlin, London, New York, \
Paris, São Paulo and Tokyo, each with fixed values.

Each request is told on stderr with the address it came from, as in
  weather-service: 192.168.50.11 asked for Paris: 200

SIGTERM and SIGINT end the service with exit code 0; a wrong command line ends it with 2, an address that cannot be \
listened on with 1.";

/// A host outside of the cluster: answers like the weather API that the bot asks.
#[derive(Parser)]
#[command(name = "weather-service", version, after_help = EXAMPLES)]
struct CommandLine {
    /// Where to listen: 192.168.50.1:8080, [fd00::1]:8080 or [::]:8080; port 0 takes a free one
    #[arg(value_name = "ADDRESS:PORT")]
    address: String,

    /// The only key that is accepted [default: any key that is not empty]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// Everything that the service is told at its start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The only accepted key; without one any key is good.
    pub(crate) key: Option<String>,
}

/// Reads the arguments, the program's name first. The error prints itself with the usage; it also stands for `--help`
/// and `--version`, which `use_stderr` tells apart. No error repeats the key.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Settings, clap::Error> {
    let CommandLine { address, key } = CommandLine::try_parse_from(arguments).map_err(|error| match error.kind() {
        // The parser would repeat the text, which is the rest of a key that was not quoted.
        ErrorKind::UnknownArgument => {
            refusal(error.kind(), "there is an unknown option or more than one <ADDRESS:PORT>")
        }
        // This one is told without the usage.
        ErrorKind::InvalidValue => refusal(error.kind(), "--key has no value: give the key after it"),
        _ => error,
    })?;
    let address = address.parse().map_err(|_| {
        let reason =
            "<ADDRESS:PORT> is no IPv4 or IPv6 address with a port: write it as in 127.0.0.1:8080 or [::1]:8080";
        refusal(ErrorKind::ValueValidation, reason)
    })?;
    if key.as_ref().is_some_and(String::is_empty) {
        return Err(refusal(ErrorKind::ValueValidation, "--key is empty: give a key or leave the option away"));
    }
    Ok(Settings { address, key })
}

fn refusal(kind: ErrorKind, reason: &str) -> clap::Error {
    CommandLine::command().error(kind, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(arguments: &[&str]) -> Result<Settings, clap::Error> {
        read(std::iter::once("weather-service").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn both_families_are_taken_and_the_key_is_optional() {
        let settings = read_all(&["127.0.0.1:8080"]).unwrap();
        assert_eq!(settings, Settings { address: "127.0.0.1:8080".parse().unwrap(), key: None });
        let settings = read_all(&["--key", "0a1b", "[::]:80"]).unwrap();
        assert_eq!(settings, Settings { address: "[::]:80".parse().unwrap(), key: Some("0a1b".to_owned()) });
    }

    #[test]
    fn bad_arguments_are_refused_with_the_usage_and_without_the_key() {
        for (arguments, reason) in [
            (&[][..], "required arguments were not provided"),
            (&["8080"], "<ADDRESS:PORT> is no"),
            (&["localhost:8080"], "<ADDRESS:PORT> is no"),
            (&["::1:8080"], "<ADDRESS:PORT> is no"),
            (&["127.0.0.1:65536"], "<ADDRESS:PORT> is no"),
            (&["127.0.0.1:80", "--key", ""], "--key is empty"),
            (&["127.0.0.1:80", "--key"], "--key has no value"),
            (&["127.0.0.1:80", "--key", "first", "0a1b"], "more than one <ADDRESS:PORT>"),
        ] {
            let error = read_all(arguments).unwrap_err();
            let text = error.to_string();
            assert!(error.use_stderr() && text.contains(reason), "{arguments:?}: {text}");
            assert!(text.contains("Usage: weather-service") && !text.contains("0a1b"), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn every_known_city_stands_in_the_help() {
        for place in crate::place::PLACES {
            assert!(EXAMPLES.contains(place.name), "{}", place.name);
        }
    }
}
