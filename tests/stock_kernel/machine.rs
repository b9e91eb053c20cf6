//! The machine as a node, for one scene at a time: it has one network, whose limits are its own.

use std::sync::{Mutex, PoisonError};

use podwire_tests::lab::Lab;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{Outcome, scene};

/// Held by the scene that plays.
static PLAYING: Mutex<()> = Mutex::new(());

/// Takes away what the scene before has left.
const CLEAN: &str = "
    for device in $(ip -o link | sed 's/^[0-9]*: //; s/[:@].*//' | grep -v '^lo$'); do ip link delete $device; done
    for table in podwire podwire-policy; do
        ! nft list table inet $table >/dev/null 2>&1 || nft delete table inet $table
    done
    ip nexthop flush; ip route flush proto 112; ip -6 route flush proto 112
    for table in /proc/sys/net/ipv[46]/neigh/default; do
        echo 128 >$table/gc_thresh1; echo 512 >$table/gc_thresh2; echo 1024 >$table/gc_thresh3
    done
    limit=/proc/sys/net/netfilter/nf_conntrack_max; [ ! -e $limit ] || echo 65536 >$limit";

/// Plays on nodes of which the last one, behind `others`, is the machine; the membership lists `listed` nodes. The daemons
/// are not started yet.
#[track_caller]
pub(crate) fn machine(others: u16, listed: u16, body: impl FnOnce(&mut Lab) -> Outcome) {
    let _playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
    scene(others, |lab| {
        let place = std::path::Path::new("/run");
        Host::machine("the machine", place)?.run("sh", &["-ec", CLEAN])?;
        lab.add_machine(others + 1)?;
        lab.write(&Membership::of(1..=listed))?;
        body(lab)
    });
}
