//! The full check: a store that the core wrote is whole; each kind of damage is found, where it is, and named without
//! content.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use bytes::Bytes;
use core_world::*;
use hongyan_protocol::wire::{self, client_frame::Verb};
use hongyan_relay::core::CoreConfig;
use hongyan_relay::core::queries::{Answer, Query};
use hongyan_relay::core::queue::{Diffusion, QueueConfig};
use hongyan_relay::core::verify::{Word, verify};
use hongyan_relay::store::{Batch, MemoryStore, Order, Store, Table};

const BODY: &str = "a body that nobody may see";

/// Profiles, direct messages, some of them changed, a group with a change, one that comes by its log, read marks, devices, one of them signed out, and revoked tokens.
fn store() -> MemoryStore {
    let queue = QueueConfig { capacity: 1, segment_entries: 2, ..QueueConfig::default() };
    let mut world = World::with(CoreConfig { queue, ..CoreConfig::default() });
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let conversation = direct("alice", "bob");
    for n in 1..=3 {
        world.send(alice, &conversation, &format!("k{n}"), BODY);
    }
    let group = world.group(alice, "g", &["bob", "carol"]);
    world.send(bob, &group, "b1", BODY);
    let large = Query::CreateGroup {
        title: "Geese".into(),
        owner: user("alice"),
        members: vec![user("bob"), user("dora")],
        mode: Diffusion::Log,
    };
    let Answer::Group(large) = world.answered(large) else { panic!("no group") };
    world.send(alice, large.id.as_str(), "large", BODY);
    world.frame(alice, 3, edit(&conversation, 1, "m", &format!("{BODY} again")));
    world.frame(alice, 4, recall(&conversation, 3, "r"));
    world.frame(bob, 5, react(large.id.as_str(), 1, "b2", "👍"));
    world.frame(bob, 7, Verb::MarkRead(wire::MarkRead { conversation, seq: 2 }));
    world.frame(bob, 8, Verb::LeaveGroup(wire::LeaveGroup { conversation: group }));
    world.frame(alice, 9, Verb::SetInvisible(wire::SetInvisible { invisible: true }));
    world.frame(alice, 11, set_profile("p", Some(BODY), None));
    world.frame(alice, 0, Verb::Ack(wire::Ack { cursor: 3 }));
    world.answered(Query::RevokeTokens(user("bob")));
    world.login("alice", "lost");
    world.frame(alice, 10, Verb::SignOut(wire::SignOut { device: "lost".into() }));
    world.pass(3_000);
    world.store.clone()
}

fn findings(store: &MemoryStore) -> Vec<String> {
    let mut findings = Vec::new();
    let summary = verify(store, &mut |word| {
        if let Word::Finding(finding) = word {
            findings.push(finding.to_string());
        }
    });
    assert_eq!(summary.findings, findings.len() as u64);
    assert_eq!(summary.tables.len(), Table::ALL.len());
    assert!(findings.iter().all(|finding| !finding.contains(BODY)), "R10");
    findings
}

fn rows(store: &MemoryStore, table: Table) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        true
    };
    store.scan(table, b"", &[0xff], Order::Ascending, visit).unwrap();
    rows
}

#[test]
fn what_the_core_wrote_is_whole() {
    assert_eq!(findings(&store()), Vec::<String>::new());
    assert_eq!(findings(&MemoryStore::new()), Vec::<String>::new());
}

#[test]
fn a_row_that_is_missing_is_found_whichever_it_is() {
    for table in Table::ALL {
        let all = rows(&store(), table);
        assert!(!all.is_empty(), "{table:?}");
        for (at, (key, _)) in all.iter().enumerate() {
            let store = store();
            let mut batch = Batch::default();
            batch.delete(table, key.clone());
            store.commit(&batch).unwrap();
            let found = findings(&store);
            // A key's answer, a device and what a user's record says may be forgotten; of a queue the oldest row, which
            // may be trimmed, and the newest, because nothing points there.
            let of = |row: Option<&(Bytes, Bytes)>| row.map(|(key, _)| key[..key.len() - 8].to_vec());
            let is_queue = matches!(table, Table::Queue | Table::Overflow);
            let is_end_of_queue = is_queue && {
                let before = at.checked_sub(1).and_then(|at| of(all.get(at)));
                let here = of(all.get(at));
                before != here || (table == Table::Queue && of(all.get(at + 1)) != here)
            };
            let may_go = matches!(table, Table::Keys | Table::Devices | Table::Users) || is_end_of_queue;
            assert!(may_go || !found.is_empty(), "{table:?} {key:?}");
        }
    }
}

#[test]
fn a_row_with_another_row_s_value_or_none_is_found() {
    for table in [Table::Messages, Table::Changes, Table::Keys, Table::Groups] {
        let all = rows(&store(), table);
        for (at, (key, value)) in all.iter().enumerate() {
            let other = &all[(at + 1) % all.len()].1;
            for value in [other.clone(), value.slice(..value.len() - 1), Bytes::from_static(b"\xff\xff")] {
                let store = store();
                let mut batch = Batch::default();
                batch.put(table, key.clone(), value);
                store.commit(&batch).unwrap();
                assert!(!findings(&store).is_empty(), "{table:?} {key:?}");
            }
        }
    }
}

#[test]
fn a_finding_is_a_line_with_the_table_and_the_escaped_key() {
    let store = store();
    let mut batch = Batch::default();
    batch.put(Table::Queue, &b"al\nice\0\0\0\0\0\0\0\0\x01"[..], &b"\xff"[..]);
    store.commit(&batch).unwrap();
    let found = findings(&store);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with(r#"queue "al\nice\x00\x00\x00\x00\x00\x00\x00\x00\x01": "#), "{}", found[0]);
    assert!(!found[0].contains('\n'));
}
