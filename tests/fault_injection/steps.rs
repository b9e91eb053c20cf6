//! Each verb, disturbed at each of its steps.

use super::points::{ALL, CLEAN, Points};
use super::world::{BESIDE, CAPABILITIES, FIRST, PLAIN, REBOOTED};

#[test]
fn l6_l8_add_is_killed_anywhere() {
    Points::of("kill", "ADD", PLAIN).kill(&ALL);
}

#[test]
fn l6_l8_add_with_capabilities_is_killed_anywhere() {
    Points::of("kill", "ADD", CAPABILITIES).kill(&ALL);
}

#[test]
fn l6_l8_add_of_a_second_interface_is_killed_anywhere() {
    Points::of("kill", "ADD", BESIDE).kill(&ALL);
}

#[test]
fn l6_l8_the_first_add_of_a_network_is_killed_anywhere() {
    Points::of("kill", "ADD", FIRST).kill(&ALL);
}

#[test]
fn l6_l11_the_first_add_after_a_boot_is_killed_anywhere() {
    Points::of("kill", "ADD", REBOOTED).kill(&ALL);
}

#[test]
fn l7_del_is_killed_anywhere() {
    Points::of("kill", "DEL", CAPABILITIES).kill(&ALL);
}

#[test]
fn l7_del_of_a_second_interface_is_killed_anywhere() {
    Points::of("kill", "DEL", BESIDE).kill(&ALL);
}

#[test]
fn l7_gc_is_killed_anywhere() {
    Points::of("kill", "GC", CAPABILITIES).kill(&ALL);
}

#[test]
fn t1_t3_l12_add_meets_an_error_anywhere() {
    Points::of("fail once", "ADD", CAPABILITIES).fail_once();
}

#[test]
fn t1_t3_l12_add_of_a_second_interface_meets_an_error_anywhere() {
    Points::of("fail once", "ADD", BESIDE).fail_once();
}

#[test]
fn t1_t3_l12_the_first_add_of_a_network_meets_an_error_anywhere() {
    Points::of("fail once", "ADD", FIRST).fail_once();
}

#[test]
fn l7_del_meets_an_error_anywhere() {
    Points::of("fail once", "DEL", CAPABILITIES).fail_once();
}

#[test]
fn l7_del_of_a_second_interface_meets_an_error_anywhere() {
    Points::of("fail once", "DEL", BESIDE).fail_once();
}

#[test]
fn l7_gc_meets_an_error_anywhere() {
    Points::of("fail once", "GC", CAPABILITIES).fail_once();
}

#[test]
fn t5_add_cannot_undo_what_it_did() {
    Points::of("fail for good", "ADD", CAPABILITIES).fail_for_good(&CLEAN);
}

#[test]
fn t5_add_of_a_second_interface_cannot_undo_what_it_did() {
    Points::of("fail for good", "ADD", BESIDE).fail_for_good(&CLEAN);
}

#[test]
fn t5_the_first_add_after_a_boot_cannot_undo_what_it_did() {
    Points::of("fail for good", "ADD", REBOOTED).fail_for_good(&CLEAN);
}

#[test]
fn l7_del_meets_an_error_that_lasts() {
    Points::of("fail for good", "DEL", CAPABILITIES).fail_for_good(&CLEAN);
}

#[test]
fn l7_gc_meets_an_error_that_lasts() {
    Points::of("fail for good", "GC", CAPABILITIES).fail_for_good(&CLEAN);
}

#[test]
fn t1_every_request_of_add_is_refused() {
    Points::of("refuse", "ADD", CAPABILITIES).refuse();
}

#[test]
fn t1_every_request_of_add_of_a_second_interface_is_refused() {
    Points::of("refuse", "ADD", BESIDE).refuse();
}

#[test]
fn l7_every_request_of_del_and_gc_is_refused() {
    Points::of("refuse", "DEL", BESIDE).refuse();
    Points::of("refuse", "GC", CAPABILITIES).refuse();
}

#[test]
fn l13_every_wait_and_every_dump_of_add_is_interrupted() {
    Points::of("interrupt", "ADD", BESIDE).interrupt();
}

#[test]
fn l13_every_wait_and_every_dump_of_del_and_gc_is_interrupted() {
    Points::of("interrupt", "DEL", BESIDE).interrupt();
    Points::of("interrupt", "GC", CAPABILITIES).interrupt();
}
