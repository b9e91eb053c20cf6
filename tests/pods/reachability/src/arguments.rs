//! The command line and the environment.

use std::net::IpAddr;

use clap::{Args, Parser, Subcommand, value_parser};

/// A pod on each node that asks all its fellows over TCP, by IPv4 and IPv6, and shows who reaches whom.
#[derive(Debug, Parser)]
#[command(name = "reachability", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask all fellows again and again, and answer them
    Serve(Serve),

    /// Print the matrix of the pod that this is executed in; the exit code is 0 when everybody reaches everybody
    Show {
        /// The port that it serves
        #[arg(long, default_value_t = 8080, value_parser = value_parser!(u16).range(1..))]
        port: u16,
    },
}

const PAGES: &str = "\
Pages: /matrix (text; 200 when everybody reaches everybody without NAT, else 503), /matrix.json, /row (what this pod has \
seen), /seen (whom this pod sees), /readyz (200 while this pod reaches all its fellows), /healthz. A matrix that has changed \
is written to standard output. SIGTERM and SIGINT end the program with exit code 0.";

#[derive(Debug, Clone, Args)]
#[command(after_help = PAGES)]
pub(crate) struct Serve {
    /// Name of a headless Service: it resolves to the addresses of all fellows, this pod's own among them
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The port that all of them serve
    #[arg(long, default_value_t = 8080, value_parser = value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// Milliseconds from one round of questions to the next
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 2000, value_parser = value_parser!(u64).range(10..))]
    pub(crate) every: u64,

    /// Name of this pod
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub(crate) pod: String,

    /// Name of the node that this pod is on
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub(crate) node: String,

    /// This pod's addresses: what its fellows have to see it under
    #[arg(long, env = "POD_IPS", value_name = "ADDRESSES", value_delimiter = ',', required = true)]
    pub(crate) addresses: Vec<IpAddr>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command};

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let line = "reachability serve fellows --pod a --node n --addresses 10.244.1.2,fd00:10:244:1::2";
        let Command::Serve(serve) = Arguments::parse_from(line.split(' ')).command else { panic!("not serve") };
        assert_eq!((serve.addresses.len(), serve.port), (2, 8080));
        assert!(Arguments::try_parse_from(["reachability", "serve", "fellows", "--pod", "a", "--node", "n"]).is_err());
    }
}
