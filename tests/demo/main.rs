//! The demo as a user runs it: shown, kept, taken down; twice is refused; nothing is left. It needs namespaces, and nothing
//! else in them: the demo compares the machine before and after.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

use podwire_tests::lab::program;

fn demo(arguments: &[&str]) -> (Output, String) {
    // Its word for the part outside is left in the directory for temporary files: one of its own for this test.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut command = Command::new(program("podwire-demo").unwrap());
    command.args(arguments).env("TMPDIR", directory).env_remove("PODWIRE_ISOLATED");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[test]
fn the_demo_is_shown_kept_and_taken_down() {
    for left in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap() {
        // Of a run of this test that was killed.
        std::fs::remove_dir_all(left.unwrap().path()).unwrap();
    }
    let (output, text) = demo(&["--down"]);
    assert!(output.status.code() == Some(1) && text.contains("no cluster is up"), "{text}");
    let (output, text) = demo(&[]);
    assert!(output.status.success() && text.contains("every check held"), "{text}");
    for fact in [
        "36 of 36",
        "34 of 36 as before; 2 refused, by irc/irc-server, as podwired explains",
        "Temperature: 18.0°C",
        "this machine is as it was before",
    ] {
        assert!(text.contains(fact), "no {fact:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "colour where no terminal is: {text:?}");

    let (output, text) = demo(&["--keep"]);
    assert!(output.status.success() && text.contains("nsenter --target "), "{text}");
    let line = text.lines().find(|line| line.trim_start().starts_with("user-2 ") && line.contains("nsenter")).unwrap();
    let mut enter = line.split_whitespace().skip(1);
    let inside = Command::new(enter.next().unwrap()).args(enter).args(["cat", "/proc/net/dev"]).output().unwrap();
    let devices = String::from_utf8_lossy(&inside.stdout).into_owned();
    assert!(devices.contains("eth0:"), "{line}: {devices}{}", String::from_utf8_lossy(&inside.stderr));

    let (output, text) = demo(&["--keep"]);
    assert!(output.status.code() == Some(1) && text.contains("a cluster is up already"), "{text}");
    let (output, text) = demo(&["--down"]);
    assert!(output.status.success() && text.contains("this machine is as it was before"), "{text}");
    let (output, text) = demo(&["--keep", "--down"]);
    assert!(output.status.code() == Some(2) && text.contains("cannot be used with"), "{text}");
}
