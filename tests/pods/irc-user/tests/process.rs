//! The program against a server of this test's own, which says what it is told to.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

/// Runs it against a server that answers the welcome and the question with these lines.
fn talk(welcome: &'static str, answer: &'static str) -> (Output, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a caller");
        let mut writer = stream.try_clone().expect("the same socket");
        let mut heard = Vec::new();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let said = match line.split(' ').next() {
                Some("USER") => welcome,
                Some("WEATHER") => answer,
                _ => "",
            };
            heard.push(line);
            if writer.write_all(said.as_bytes()).is_err() {
                break;
            }
        }
        heard
    });
    let mut program = Command::new(env!("CARGO_BIN_EXE_irc-user"));
    let output = program.args([&address, "sesame", "New York", "--within", "5"]).output().expect("it runs");
    (output, server.join().expect("the server ends"))
}

#[test]
fn an_answer_is_printed_and_a_ping_is_answered_meanwhile() {
    let welcome = ":irc 001 ada :Welcome\r\n:irc 422 ada :No message of the day\r\nPING :x\r\n";
    let answer = ":bot!b@h PRIVMSG ada :-----\r\n:bot!b@h PRIVMSG ada :Location: New York, USA\r\n:bot!b@h PRIVMSG ada :-----\r\n";
    let (output, heard) = talk(welcome, answer);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "-----\nLocation: New York, USA\n-----\n");
    assert_eq!(heard, ["PASS sesame", "NICK ada", "USER ada 0 * :ada", "WEATHER New York", "PONG :x"]);
}

#[test]
fn a_refusal_and_an_answer_without_weather_are_failures() {
    let (output, _) = talk(":irc 464 ada :Password incorrect\r\n", "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("464 ada"), "{output:?}");
    let (output, _) = talk(":irc 001 ada :Welcome\r\n", ":irc NOTICE ada :There is no bot\r\n");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"There is no bot\n".as_slice()));
}
