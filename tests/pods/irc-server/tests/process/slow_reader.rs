//! A client that does not read.

use crate::{program::Program, wire::Wire};

#[test]
fn a_slow_reader_is_dropped_at_its_queue_limit_and_nobody_else() {
    let program = Program::start(&["--send-queue", "65536"]);
    let mut alice = Wire::enter(&program, "alice");
    let mut carol = Wire::enter(&program, "carol");
    let mut slow = Wire::enter(&program, "slow");
    for wire in [&mut alice, &mut carol, &mut slow] {
        wire.say("JOIN #a");
        wire.hear(" 366 ");
    }
    slow.asks_for_more_than_it_takes();
    assert_eq!(carol.hear("QUIT"), ":slow!slow@127.0.0.1 QUIT :Send queue exceeded");
    program.has_logged("slow!slow@127.0.0.1 left: Send queue exceeded").unwrap();
    carol.hears_nothing();
    // What the kernel has taken still arrives, but the connection ends.
    slow.rest();
    alice.say("PING :end");
    alice.hear(":end");
}
