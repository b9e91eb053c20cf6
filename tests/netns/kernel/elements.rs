//! Elements of sets of nftables that several owners have: nobody takes what is another's, at whatever time it comes.

use std::sync::Barrier;
use std::thread;

use podwire_kernel::nft::{Element, Ensured, Table};
use podwire_kernel::{Socket, nft};

use super::nftables::{elements, everything, listed, socket_of_nftables, sorted};
use super::objects::host;

/// A table with somebody's elements in it; those that are to come beside them, and those.
fn beside_others() -> (Socket, Table, Vec<Element>, Vec<Element>) {
    let (mut socket, table) = (socket_of_nftables(), everything());
    let (mine, others) = (elements(5, "pwmine"), elements(6, "pwother"));
    nft::ensure(&mut socket, &table, &others).unwrap();
    (socket, table, mine, others)
}

#[test]
fn elements_survive_changes_of_their_table() {
    let host = host();
    host.enter(|| {
        let (mut socket, table, mine, others) = beside_others();
        let nft = |line: &str| host.run("nft", &line.split(' ').collect::<Vec<_>>()).unwrap();
        // A foreign rule in a chain of ours goes, a foreign chain and a foreign set stay.
        nft("add rule inet ours called accept");
        nft("add chain inet ours strange");
        nft("add rule inet ours strange ip saddr vmap @roads4");
        nft("add set inet ours odd { type ipv4_addr ; }");
        nft("add element inet ours odd { 10.9.9.9 }");
        nft("add table inet foreign");
        let done = nft::ensure(&mut socket, &table, &mine).unwrap();
        assert_eq!(done, Ensured { table: true, elements: 6 });
        assert!(nft::read(&mut socket, &table).unwrap().is(&table));
        assert_eq!(listed(&mut socket, &table), sorted([mine.clone(), others.clone()].concat()));
        nft("list table inet foreign");
        assert!(nft("list chain inet ours strange").contains("ip saddr vmap @roads4"));
        assert!(nft("list set inet ours odd").contains("10.9.9.9"));
        // A table that sleeps is woken, a table that is gone is made anew, with what is wanted now.
        nft("add table inet ours { flags dormant ; }");
        assert_eq!(nft::ensure(&mut socket, &table, &mine).unwrap(), Ensured { table: true, elements: 0 });
        assert_eq!(listed(&mut socket, &table).len(), 12);
        nft("flush ruleset");
        assert_eq!(nft::ensure(&mut socket, &table, &mine).unwrap(), Ensured { table: true, elements: 6 });
        assert_eq!(listed(&mut socket, &table), sorted(mine));
    });
}

#[test]
fn a_set_of_other_types_is_recreated_and_other_sets_keep_their_elements() {
    let host = host();
    host.enter(|| {
        let (mut socket, table, mine, others) = beside_others();
        let nft = |line: &str| host.run("nft", &line.split(' ').collect::<Vec<_>>()).unwrap();
        for wrong in [
            "{ type ipv4_addr . inet_service : ipv4_addr . inet_service ; }",
            "{ type inet_proto . ipv4_addr . inet_service : verdict ; }",
            "{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service ; size 1 ; }",
            "{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service ; timeout 1s ; }",
        ] {
            nft("flush chain inet ours called");
            nft("delete map inet ours ports4");
            nft(&format!("add map inet ours ports4 {wrong}"));
            assert_eq!(nft::read(&mut socket, &table).unwrap().mistyped, ["ports4"], "{wrong}");
            assert_eq!(nft::missing(&mut socket, &table, &mine[1..2]).unwrap(), mine[1..2], "{wrong}");
            assert_eq!(nft::remove_elements(&mut socket, &table, &mine[1..2]).unwrap(), 0, "{wrong}");
            let done = nft::ensure(&mut socket, &table, &mine[1..2]).unwrap();
            assert_eq!(done, Ensured { table: true, elements: 1 }, "{wrong}");
            let kept = others.iter().filter(|element| element.set != "ports4").cloned();
            assert_eq!(listed(&mut socket, &table), sorted(kept.chain(mine[1..2].to_vec()).collect()), "{wrong}");
        }
        // A chain that should be called by rules only, and is at a hook.
        nft("flush chain inet ours called");
        nft("delete element inet ours roads4 { 10.0.0.6 }");
        nft("delete element inet ours roads6 { fd00::6 }");
        nft("delete chain inet ours road");
        nft("add chain inet ours road { type nat hook input priority 0 ; }");
        assert_eq!(nft::read(&mut socket, &table).unwrap().misplaced, ["road"]);
        nft::ensure(&mut socket, &table, &others).unwrap();
        assert!(nft::read(&mut socket, &table).unwrap().is(&table));
        assert_eq!(nft::missing(&mut socket, &table, &others).unwrap(), []);
    });
}

#[test]
fn an_element_can_be_taken_over_and_is_removed_by_its_owner_only() {
    host().enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        let table = everything();
        // The same keys and the same data: a pod that has got the address and the host port of one whose end went by
        // unnoticed.
        let (before, now) = (elements(5, "pwbefore"), elements(5, "pwnow"));
        nft::ensure(&mut socket, &table, &before).unwrap();
        assert_eq!(nft::missing(&mut socket, &table, &now).unwrap(), now);
        assert_eq!(nft::ensure(&mut socket, &table, &now).unwrap(), Ensured { table: false, elements: 6 });
        assert_eq!(nft::remove_elements(&mut socket, &table, &before).unwrap(), 0);
        assert_eq!(listed(&mut socket, &table), sorted(now.clone()));
        // Asked for twice in one breath, with some that are gone.
        let gone = elements(7, "pwnow");
        let twice = [now.clone(), gone, now.clone()].concat();
        assert_eq!(nft::remove_elements(&mut socket, &table, &twice).unwrap(), 6);
        assert_eq!(nft::remove_elements(&mut socket, &table, &twice).unwrap(), 0);
        assert_eq!(listed(&mut socket, &table), []);
        socket.transact(table.delete()).unwrap();
        assert_eq!(nft::remove_elements(&mut socket, &table, &twice).unwrap(), 0);
        assert_eq!(nft::ensure(&mut socket, &table, &[now.clone(), now].concat()).unwrap().elements, 6);
    });
}

#[test]
fn more_elements_than_fit_into_a_transaction_are_added_and_removed() {
    host().enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        let table = everything();
        let many: Vec<_> = (0..1_000).flat_map(|number| elements(number, "pwmany")).collect();
        let done = nft::ensure(&mut socket, &table, &many).unwrap();
        assert_eq!(done, Ensured { table: true, elements: 6_000 });
        assert_eq!(nft::missing(&mut socket, &table, &many).unwrap(), []);
        assert_eq!(listed(&mut socket, &table), sorted(many.clone()));
        assert_eq!(nft::remove_elements(&mut socket, &table, &many).unwrap(), 6_000);
        assert_eq!(listed(&mut socket, &table), []);
    });
}

/// Many pods come and go at the same moment, the first ones before there is a table, or while there is a wrong one.
#[test]
fn concurrent_first_uses_neither_fail_nor_lose_elements() {
    let host = host();
    let table = everything();
    let mut wrong = table.clone();
    wrong.sets[1].key.pop();
    wrong.chains.clear();
    for round in 0..30 {
        host.run("nft", &["flush", "ruleset"]).unwrap();
        if round % 2 == 1 {
            host.enter(|| nft::ensure(&mut socket_of_nftables(), &wrong, &[]).unwrap());
        }
        let start = Barrier::new(8);
        let (table, start, host) = (&table, &start, &host);
        thread::scope(|scope| {
            for number in 0..8 {
                scope.spawn(move || {
                    host.enter(|| {
                        let mut socket = socket_of_nftables();
                        let (mine, brief) = (elements(number, "pwmine"), elements(number + 100, "pwbrief"));
                        start.wait();
                        nft::ensure(&mut socket, table, &mine).unwrap();
                        nft::ensure(&mut socket, table, &brief).unwrap();
                        assert_eq!(nft::remove_elements(&mut socket, table, &brief).unwrap(), 6);
                        assert_eq!(nft::missing(&mut socket, table, &mine).unwrap(), []);
                    });
                });
            }
        });
        let all = (0..8).flat_map(|number| elements(number, "pwmine")).collect();
        assert_eq!(host.enter(|| listed(&mut socket_of_nftables(), table)), sorted(all));
    }
}

#[test]
fn repairing_a_set_removes_nothing_that_was_added_meanwhile() {
    host().enter(|| {
        let (mut one, mut other) = (socket_of_nftables(), socket_of_nftables());
        let table = everything();
        let mut wrong = table.clone();
        wrong.sets[1].key.pop();
        wrong.chains.clear();
        nft::ensure(&mut one, &wrong, &[]).unwrap();
        let found = nft::read(&mut one, &table).unwrap();
        assert_eq!(found.mistyped, ["ports4"]);
        // Between the look and the deed.
        let theirs = elements(6, "pwtheirs");
        nft::ensure(&mut other, &table, &theirs).unwrap();
        let error = one.transact_upon(Some(found.generation), table.replace(&found)).unwrap_err();
        assert!(error.is_outdated(), "{error}");
        nft::ensure(&mut one, &table, &[]).unwrap();
        assert_eq!(listed(&mut one, &table), sorted(theirs));
    });
}
