//! `wait-for-name NAME`: an init container that ends when a name resolves, so that the pod's other containers start after
//! what they need. It asks the resolver of the pod, as they will.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pod_process::journal::Journal;
use pod_process::program::{self, failed};
use tokio::net::lookup_host;
use tokio::signal::unix::SignalKind;
use tokio::time::{sleep, timeout};

const JOURNAL: Journal = Journal("wait-for-name");

const EXIT: &str = "\
Standard error has a line for each new answer of the resolver. The exit code is 0 when the name has an address, 1 when the \
time is over or the program is told to stop before it has one, 2 when the command line is wrong.";

/// Waits until a name has an address: an init container of the test pods.
#[derive(Parser)]
#[command(name = "wait-for-name", version, after_help = EXIT)]
struct CommandLine {
    /// The name, as the other containers of the pod will ask for it: irc-server, irc-server.default.svc.cluster.local
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,

    /// Milliseconds between an answer without an address and the next question
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..))]
    every: u64,

    /// Give up after so many seconds [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    within: Option<u64>,
}

fn name(text: &str) -> Result<String, String> {
    let sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:[]".contains(&byte));
    sound.then(|| text.to_owned()).ok_or_else(|| "a name has neither spaces nor a port: irc-server".into())
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match program::in_an_event_loop(wait(&line)).and_then(|found| found) {
        Ok(addresses) => {
            JOURNAL.say(format_args!("{} is {}", line.name, list(&addresses)));
            ExitCode::SUCCESS
        }
        Err(why) => failed(JOURNAL, &why),
    }
}

/// Asks until there is an answer, the time is over, or the program is told to stop.
async fn wait(line: &CommandLine) -> Result<BTreeSet<IpAddr>, String> {
    // As the first process of a container it gets no default action for a signal, so both are handled by name.
    let mut terminate = program::handler(SignalKind::terminate())?;
    let mut interrupt = program::handler(SignalKind::interrupt())?;
    let limited = async {
        match line.within {
            None => Ok(resolved(&line.name, Duration::from_millis(line.every)).await),
            Some(seconds) => {
                let asked = resolved(&line.name, Duration::from_millis(line.every));
                let over = |_| format!("{} has no address after {seconds} s", line.name);
                timeout(Duration::from_secs(seconds), asked).await.map_err(over)
            }
        }
    };
    tokio::select! {
        outcome = limited => outcome,
        _ = terminate.recv() => Err("stopped by SIGTERM".into()),
        _ = interrupt.recv() => Err("stopped by SIGINT".into()),
    }
}

async fn resolved(name: &str, pause: Duration) -> BTreeSet<IpAddr> {
    let mut said = String::new();
    loop {
        let answer = match lookup_host((name, 0)).await {
            Ok(addresses) => {
                let addresses: BTreeSet<_> = addresses.map(|address| address.ip()).collect();
                if !addresses.is_empty() {
                    return addresses;
                }
                "no address".to_owned()
            }
            Err(error) => error.to_string(),
        };
        // Once, and not at every question.
        if answer != said {
            JOURNAL.say(format_args!("waiting for {name}: {answer}"));
            said = answer;
        }
        sleep(pause).await;
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::CommandLine;

    #[test]
    fn the_command_line_is_sound_and_a_name_is_a_name() {
        CommandLine::command().debug_assert();
        for good in ["irc-server", "irc-server.default.svc.cluster.local.", "10.0.0.1"] {
            assert!(CommandLine::try_parse_from(["wait-for-name", good]).is_ok(), "{good}");
        }
        for bad in [&[""][..], &["two words"], &["irc-server:6667"], &["a", "b"], &[], &["a", "--within=0"]] {
            assert!(CommandLine::try_parse_from([&["wait-for-name"], bad].concat()).is_err(), "{bad:?}");
        }
    }
}
