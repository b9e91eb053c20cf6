//! The kernel's notifications of nftables: heard, and not heard while they are not wanted.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use podwire_kernel::netlink::monitor::Monitor;
use podwire_tests::lab::SOON;

use super::objects::host;

/// Silence can only be waited for.
const SILENCE: Duration = Duration::from_millis(200);

#[test]
fn nothing_is_heard_of_nftables_during_a_pause_and_everything_after_it() {
    let host = host();
    let add = |name: &str| host.run("nft", &["add", "table", "inet", name]).map(drop).unwrap();
    let monitor = host.enter(|| Monitor::open(&[], &[]).unwrap());
    let hearing = monitor.nftables();
    let (sender, heard) = channel();
    thread::spawn(move || while monitor.wait().is_ok_and(|()| sender.send(()).is_ok()) {});
    for round in ["first", "second"] {
        add(&format!("{round}-heard"));
        heard.recv_timeout(SOON).unwrap();
        // One transaction may be told of in several parts.
        while heard.recv_timeout(SILENCE).is_ok() {}
        hearing.pause(|| add(&format!("{round}-unheard"))).unwrap();
        assert!(heard.recv_timeout(SILENCE).is_err(), "{round}");
    }
}
