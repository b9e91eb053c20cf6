//! `podwire`: hands the environment, stdin and stdout to the library and turns the answer into an exit code.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    podwire::run(&environment, &mut stdin().lock(), &mut stdout().lock(), &mut stderr().lock())
}
