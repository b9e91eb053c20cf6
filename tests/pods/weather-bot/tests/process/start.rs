//! The start: what is refused before anything is connected, and what help and version say.

use pod_process::process;

use crate::bot::{KEY, PASSWORD, command};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    process::run(command().args(arguments).envs(variables.iter().copied()))
}

fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let (code, stdout, stderr) = run(arguments, variables);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.contains("Usage: weather-bot"), "{stderr}");
    assert!(!stderr.contains(KEY) && !stderr.contains(PASSWORD), "{stderr}");
    stderr
}

#[test]
fn a_bot_without_a_key_refuses_to_start() {
    for variables in [&[][..], &[("WEATHER_API_KEY", "")]] {
        let stderr = refused(&["127.0.0.1:6667", PASSWORD], variables);
        let first = stderr.lines().next().unwrap();
        assert_eq!(first, "error: WEATHER_API_KEY is not set or empty: set it to the key of the weather API");
    }
}

#[test]
fn a_malformed_url_refuses_to_start() {
    for url in ["", "weather", "ftp://weather/", "http://weather/?key=0a1b&2c3d"] {
        let variables = [("WEATHER_API_KEY", KEY), ("WEATHER_API_URL", url)];
        assert!(refused(&["127.0.0.1:6667", PASSWORD], &variables).contains("WEATHER_API_URL is malformed"), "{url}");
    }
}

#[test]
fn bad_arguments_refuse_to_start() {
    let key = [("WEATHER_API_KEY", KEY)];
    for arguments in [
        &[][..],
        &["127.0.0.1:6667"],
        &["127.0.0.1", PASSWORD],
        &["fd00::1:6667", PASSWORD],
        &["127.0.0.1:70000", PASSWORD],
        &[PASSWORD, "127.0.0.1:6667"],
        &["127.0.0.1:6667", "two", PASSWORD],
        &["127.0.0.1:6667", ""],
        &["127.0.0.1:6667", "s3cret-pass\nQUIT"],
        &["--first-wait", "soon", "127.0.0.1:6667", PASSWORD],
    ] {
        refused(arguments, &key);
    }
}

#[test]
fn help_and_version_are_printed_on_stdout_without_a_key() {
    let (code, help, stderr) = run(&["--help"], &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for word in ["<HOST:PORT>", "<PASSWORD>", "WEATHER_API_KEY", "WEATHER_API_URL", "--first-wait", "--silence"] {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
    let (code, version, _) = run(&["--version"], &[]);
    assert_eq!((code, version.as_str()), (Some(0), concat!("weather-bot ", env!("CARGO_PKG_VERSION"), "\n")));
}
