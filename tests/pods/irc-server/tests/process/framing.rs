//! Bytes that arrive in odd pieces, and bytes that are garbage.

use std::io::Write;

use crate::{program::Program, wire::Wire};

#[test]
fn lines_in_pieces_and_lines_together_are_the_same_conversation() {
    let program = Program::start(&[]);
    let mut alice = Wire::connect(&program);
    for byte in b"PASS sesame\r\nNICK alice\r\nUSER alice 0 * :Alice\r\n" {
        alice.send(&[*byte]);
    }
    alice.hear(" 376 ");
    alice.send(b"PING :one\nPING :two\r\nPING :thr");
    for token in ["one", "two"] {
        assert!(alice.line().unwrap().ends_with(&format!("PONG irc.podwire.test :{token}")));
    }
    alice.send(b"ee\r\n");
    assert!(alice.line().unwrap().ends_with(":three"));
}

#[test]
fn an_over_long_line_is_417_and_the_next_line_is_whole() {
    let program = Program::start(&[]);
    let mut alice = Wire::enter(&program, "alice");
    alice.send(&[b"PRIVMSG alice :", "x".repeat(100_000).as_bytes(), b"\r\n"].concat());
    alice.say("PING :after");
    assert!(alice.line().unwrap().contains(" 417 alice "));
    assert!(alice.line().unwrap().ends_with(":after"));
}

#[test]
fn bytes_that_are_not_utf8_reach_others_as_replacement_characters() {
    let program = Program::start(&[]);
    let mut alice = Wire::enter(&program, "alice");
    let mut bob = Wire::enter(&program, "bob");
    alice.send(b"PRIVMSG bob :caf\xe9 \xf0\x28\r\n");
    assert_eq!(bob.line().unwrap(), ":alice!alice@127.0.0.1 PRIVMSG bob :caf\u{fffd} \u{fffd}(");
    assert!(alice.line().unwrap().contains(" WARN PRIVMSG INVALID_UTF8 :"));
    // A character that comes in two pieces is whole.
    alice.send(b"PRIVMSG bob :gr\xc3");
    alice.send(b"\xbcn\r\n");
    assert_eq!(bob.line().unwrap(), ":alice!alice@127.0.0.1 PRIVMSG bob :gr\u{fc}n");
    alice.hears_nothing();
}

#[test]
fn nul_and_control_bytes_of_one_client_never_reach_another() {
    let program = Program::start(&[]);
    let mut alice = Wire::enter(&program, "alice");
    let mut bob = Wire::enter(&program, "bob");
    alice.send(b"PRIVMSG bob :a\0b\x07c\x1b[31md\rQUIT\x7f \x02bold\x02\r\n");
    assert_eq!(bob.line().unwrap(), ":alice!alice@127.0.0.1 PRIVMSG bob :abc[31mdQUIT \u{2}bold\u{2}");
    alice.hears_nothing();
}

#[test]
fn random_bytes_from_many_clients_disturb_nobody() {
    let program = Program::start(&[]);
    let mut alice = Wire::enter(&program, "alice");
    let mut state = 1_u32;
    for number in 0..40 {
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(5000)
        .collect();
        let mut noise = Wire::connect(&program);
        if number % 2 == 0 {
            noise.register(&format!("noise{number}"));
        }
        // The server may have ended the connection before it has taken all: a line of the garbage may be QUIT.
        let _ended = noise.stream().write_all(&garbage);
    }
    alice.hears_nothing();
    let mut bob = Wire::enter(&program, "bob");
    bob.say("PRIVMSG alice :still there?");
    assert_eq!(alice.line().unwrap(), ":bob!bob@127.0.0.1 PRIVMSG alice :still there?");
}
