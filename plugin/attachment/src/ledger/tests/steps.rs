//! What may happen to a ledger, as strategies for the property tests.

use proptest::prelude::*;

use crate::ipam::properties::{Design, designs, window};

/// How many attachments there are, and how many host ports they ask for.
pub(super) const ATTACHMENTS: usize = 7;
pub(super) const PORTS: u16 = 3;

/// One event.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Reserve(Request),
    Complete(usize),
    Release(usize),
    /// An ADD or DEL that was killed after so many changes.
    KilledReserve(Request, usize),
    KilledRelease(usize, usize),
    /// The ranges of the network change.
    Change {
        set: usize,
        window: (u64, u64),
    },
    DamageFreeList {
        set: usize,
        damage: Damage,
    },
    DamageRecord(usize),
    Sweep,
}

/// What an ADD asks for, and which addresses have foreign routes.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) who: usize,
    /// One of the addresses that the model lists as near the ends of a range.
    pub(super) address: Option<usize>,
    pub(super) port: Option<u16>,
    /// Which of these addresses have a foreign route, as bits.
    pub(super) foreign: u32,
}

/// What happens to the file of a free list.
#[derive(Debug, Clone)]
pub(super) enum Damage {
    Gone,
    Older,
    Cut(usize),
    Overwritten(usize, Vec<u8>),
}

pub(super) fn request() -> impl Strategy<Value = Request> {
    let address = prop_oneof![3 => Just(None), 1 => (0..64_usize).prop_map(Some)];
    let port = prop_oneof![3 => Just(None), 1 => (0..PORTS).prop_map(|number| Some(8000 + number))];
    let foreign = prop_oneof![3 => Just(0), 2 => any::<u32>(), 1 => Just(u32::MAX)];
    (0..ATTACHMENTS, address, port, foreign).prop_map(|(who, address, port, foreign)| Request {
        who,
        address,
        port,
        foreign,
    })
}

/// Events in which nothing goes wrong.
pub(super) fn regular() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => request().prop_map(Step::Reserve),
        1 => (0..ATTACHMENTS).prop_map(Step::Complete),
        3 => (0..ATTACHMENTS).prop_map(Step::Release),
    ]
}

/// Events in which something goes wrong.
pub(super) fn fault() -> impl Strategy<Value = Step> {
    let damage = prop_oneof![
        Just(Damage::Gone),
        Just(Damage::Older),
        (0..200_usize).prop_map(Damage::Cut),
        (0..200_usize, prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 1..40))
            .prop_map(|(place, bytes)| Damage::Overwritten(place, bytes)),
    ];
    prop_oneof![
        2 => (request(), 0..9_usize).prop_map(|(request, changes)| Step::KilledReserve(request, changes)),
        2 => (0..ATTACHMENTS, 0..9_usize).prop_map(|(who, changes)| Step::KilledRelease(who, changes)),
        1 => (any::<usize>(), window()).prop_map(|(set, window)| Step::Change { set, window }),
        2 => (any::<usize>(), damage).prop_map(|(set, damage)| Step::DamageFreeList { set, damage }),
        1 => (0..ATTACHMENTS).prop_map(Step::DamageRecord),
        1 => Just(Step::Sweep),
    ]
}

/// A network of one or two families.
pub(super) fn network() -> impl Strategy<Value = Vec<Vec<Design>>> {
    prop_oneof![
        designs(true, 0).prop_map(|set| vec![set]),
        designs(false, 0).prop_map(|set| vec![set]),
        (designs(true, 0), designs(false, 0)).prop_map(|(one, other)| vec![one, other]),
        (designs(false, 0), designs(false, 4)).prop_map(|(one, other)| vec![one, other]),
    ]
}
