//! `podwire`: hands the environment, stdin and stdout to the library and turns the answer into an exit code.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

use nix::sys::stat::{Mode, umask};
use podwire::stdin::WithTimeout;
use podwire_conf::shown::Lines;

fn main() -> ExitCode {
    // Whatever umask the runtime has: other users must not write the ledger. A stricter one stays.
    let no_others = Mode::S_IWGRP | Mode::S_IWOTH;
    umask(umask(no_others) | no_others);
    let environment = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let mut input = match environment("CNI_COMMAND").as_deref() {
        Some("VERSION") => WithTimeout::optional(stdin().lock()),
        _ => WithTimeout::whole(stdin().lock()),
    };
    podwire::run(&environment, &mut input, &mut stdout().lock(), &mut Lines(stderr().lock()))
}
