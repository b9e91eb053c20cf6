//! `podwire`: hands the environment, stdin and stdout to the library and turns the answer into an exit code.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

use podwire::stdin::WithTimeout;
use podwire_conf::shown::Lines;

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let mut input = match environment("CNI_COMMAND").as_deref() {
        Some("VERSION") => WithTimeout::optional(stdin().lock()),
        _ => WithTimeout::whole(stdin().lock()),
    };
    podwire::run(&environment, &mut input, &mut stdout().lock(), &mut Lines(stderr().lock()))
}
