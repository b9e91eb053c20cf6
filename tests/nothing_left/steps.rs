//! Each verb, disturbed at each of its steps.

use super::points::{ALL, CLEAN, Points};
use super::world::{BESIDE, FIRST, PLAIN, REBOOTED, WISHES};

#[test]
fn l6_l8_add_is_killed_anywhere() {
    Points::of("kill", "ADD", PLAIN).kill(&ALL);
}

#[test]
fn l6_l8_add_of_a_pod_with_wishes_is_killed_anywhere() {
    Points::of("kill", "ADD", WISHES).kill(&ALL);
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
    for case in [WISHES, BESIDE] {
        Points::of("kill", "DEL", case).kill(&ALL);
    }
}

#[test]
fn l7_gc_is_killed_anywhere() {
    Points::of("kill", "GC", WISHES).kill(&ALL);
}

#[test]
fn t1_t3_l12_add_meets_an_error_anywhere() {
    for case in [WISHES, BESIDE, FIRST] {
        Points::of("fail once", "ADD", case).fail_once();
    }
}

#[test]
fn l7_del_and_gc_meet_an_error_anywhere() {
    for (verb, case) in [("DEL", WISHES), ("DEL", BESIDE), ("GC", WISHES)] {
        Points::of("fail once", verb, case).fail_once();
    }
}

#[test]
fn t5_add_cannot_undo_what_it_did() {
    for case in [WISHES, BESIDE, FIRST] {
        Points::of("fail for good", "ADD", case).fail_for_good(&CLEAN);
    }
}

#[test]
fn l7_del_and_gc_meet_an_error_that_lasts() {
    for verb in ["DEL", "GC"] {
        Points::of("fail for good", verb, WISHES).fail_for_good(&CLEAN);
    }
}

#[test]
fn t1_every_request_to_the_kernel_is_refused() {
    for case in [WISHES, BESIDE] {
        Points::of("refuse", "ADD", case).refuse();
    }
    for (verb, case) in [("DEL", WISHES), ("DEL", BESIDE), ("GC", WISHES)] {
        Points::of("refuse", verb, case).refuse();
    }
}

#[test]
fn l13_every_wait_and_every_dump_is_interrupted() {
    for case in [WISHES, BESIDE] {
        Points::of("interrupt", "ADD", case).interrupt();
    }
    for verb in ["DEL", "GC"] {
        Points::of("interrupt", verb, WISHES).interrupt();
    }
}
