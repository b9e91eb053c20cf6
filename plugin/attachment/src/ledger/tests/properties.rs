//! A ledger against a simple model of one, through any sequence of events.

use proptest::prelude::*;

use super::model::Model;
use super::steps::{Step, fault, network, regular};
use crate::ipam::properties::Design;

fn play(designs: Vec<Vec<Design>>, steps: &[Step]) {
    let mut model = Model::new(designs);
    steps.iter().for_each(|step| model.step(step));
    model.end();
}

/// A quarter of the usual number of cases, since they work on files. `PROPTEST_CASES` sets another number.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(4), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_address_is_given_once_and_in_order_and_none_is_lost(
        designs in network(),
        steps in prop::collection::vec(regular(), 1..60),
    ) {
        play(designs, &steps);
    }

    #[test]
    fn each_address_is_given_once_and_none_is_lost_after_faults(
        designs in network(),
        steps in prop::collection::vec(prop_oneof![3 => regular(), 1 => fault()], 1..60),
    ) {
        play(designs, &steps);
    }
}
