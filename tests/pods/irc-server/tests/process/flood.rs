//! A client that sends more than anybody can read.

use std::{io::Write, time::Duration};

use crate::{program::Program, wire::Wire};

#[test]
fn a_flood_of_one_client_drops_nobody_and_holds_up_nobody() {
    let program = Program::start(&["--send-queue", "262144"]);
    let mut alice = Wire::enter(&program, "alice");
    // Bob takes nothing while he is flooded: all that is sent on to him has to fit his queue.
    let mut bob = Wire::enter(&program, "bob");
    let eve = Wire::enter(&program, "eve");
    eve.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let message = format!("PRIVMSG bob :{}\r\n", "x".repeat(400)).repeat(50);
    // Some 40 MB, unless the server stops taking them, which ends the flood.
    let taken = (0..2000).take_while(|_| eve.stream().write_all(message.as_bytes()).is_ok()).count();
    assert!(taken < 2000, "the server took the whole flood");
    alice.say("WHOIS bob");
    alice.hear_any(&[" 311 ", " 401 "]).split_once(" 311 alice bob ").expect("bob was dropped");
    alice.hear(" 318 ");
    alice.say("PRIVMSG bob :still there?");
    bob.hear("still there?");
}
