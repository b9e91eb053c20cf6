//! `podwired`: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    podwired::run(podwired::args::Args::parse())
}
