//! What every engine must do, as one test that each calls.

use bytes::Bytes;

use super::{Batch, Order, Store, Table};

/// Puts an engine through everything that the core relies on. `open` gives an empty store at first, and the same one
/// again each time after; the handles before were dropped.
///
/// # Panics
/// When the engine breaks the contract; the message says where.
pub fn check<S: Store>(mut open: impl FnMut() -> S) {
    let store = open();
    an_empty_store_has_nothing(&store);
    a_batch_is_seen_whole(&store);
    the_later_change_wins(&store);
    ranges_are_half_open_and_ordered(&store);
    visits_stop_and_may_read(&store);
    tables_are_apart(&store);
    values_of_any_size(&store);
    clones_are_handles(&store);

    let before = dump(&store);
    assert!(!before.is_empty());
    drop(store);
    let store = open();
    assert!(dump(&store) == before, "a store that is opened again has everything that was committed");
    // It goes on where it was.
    put(&store, Table::Meta, b"again", b"yes");
    drop(store);
    assert_eq!(get(&open(), Table::Meta, b"again").as_deref(), Some(&b"yes"[..]));
}

fn an_empty_store_has_nothing(store: &impl Store) {
    for table in Table::ALL {
        assert_eq!(get(store, table, b"key"), None);
        assert!(rows(store, table, b"", b"\xff", Order::Ascending).is_empty());
        assert!(rows(store, table, b"", b"\xff", Order::Descending).is_empty());
    }
    commit(store, &Batch::default());
}

fn a_batch_is_seen_whole(store: &impl Store) {
    let mut batch = Batch::default();
    for table in Table::ALL {
        batch.put(table, &b"whole"[..], table.name());
    }
    commit(store, &batch);
    for table in Table::ALL {
        assert_eq!(get(store, table, b"whole").as_deref(), Some(table.name().as_bytes()));
    }
    let mut batch = Batch::default();
    for table in Table::ALL {
        batch.delete(table, &b"whole"[..]);
        batch.delete(table, &b"never there"[..]);
    }
    commit(store, &batch);
    for table in Table::ALL {
        assert_eq!(get(store, table, b"whole"), None);
    }
}

fn the_later_change_wins(store: &impl Store) {
    let mut batch = Batch::default();
    batch.put(Table::Keys, &b"a"[..], &b"1"[..]);
    batch.put(Table::Keys, &b"a"[..], &b"2"[..]);
    batch.put(Table::Keys, &b"b"[..], &b"1"[..]);
    batch.delete(Table::Keys, &b"b"[..]);
    batch.delete(Table::Keys, &b"c"[..]);
    batch.put(Table::Keys, &b"c"[..], &b"3"[..]);
    commit(store, &batch);
    assert_eq!(get(store, Table::Keys, b"a").as_deref(), Some(&b"2"[..]));
    assert_eq!(get(store, Table::Keys, b"b"), None);
    assert_eq!(get(store, Table::Keys, b"c").as_deref(), Some(&b"3"[..]));
    assert_eq!(rows(store, Table::Keys, b"a", b"d", Order::Ascending).len(), 2);
}

fn ranges_are_half_open_and_ordered(store: &impl Store) {
    // As the core's keys: a string, a zero byte, a number; and keys that only begin alike.
    let key = |id: &str, n: u64| Bytes::from([id.as_bytes(), &[0], &n.to_be_bytes()].concat());
    let mut batch = Batch::default();
    for n in [1, 2, 3, 255, 256, 65_536, u64::MAX] {
        batch.put(Table::Queue, key("a", n), n.to_string());
    }
    batch.put(Table::Queue, key("a!", 1), "other");
    batch.put(Table::Queue, key("é", 1), "other");
    batch.put(Table::Queue, &b"a"[..], "other");
    commit(store, &batch);
    let numbers = |from: &[u8], to: &[u8], order| -> Vec<String> {
        rows(store, Table::Queue, from, to, order).into_iter().map(|(_, value)| text(&value)).collect()
    };
    let all = ["1", "2", "3", "255", "256", "65536", "18446744073709551615"];
    assert_eq!(numbers(b"a\0", b"a\x01", Order::Ascending), all);
    let mut reversed = all;
    reversed.reverse();
    assert_eq!(numbers(b"a\0", b"a\x01", Order::Descending), reversed);
    assert_eq!(numbers(&key("a", 2), &key("a", 256), Order::Ascending), ["2", "3", "255"]);
    assert_eq!(numbers(&key("a", 2), &key("a", 256), Order::Descending), ["255", "3", "2"]);
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(numbers(&key("a", 3), &key("a", 4), order), ["3"]);
        assert!(numbers(&key("a", 3), &key("a", 3), order).is_empty(), "an empty range");
        assert!(numbers(&key("a", 4), &key("a", 3), order).is_empty(), "a range that ends before it begins");
        assert!(numbers(b"b", b"c", order).is_empty());
    }
}

fn visits_stop_and_may_read(store: &impl Store) {
    for order in [Order::Ascending, Order::Descending] {
        let mut seen = 0;
        let result = store.scan(Table::Queue, b"a\0", b"a\x01", order, &mut |key, value| {
            assert_eq!(get(store, Table::Queue, key).as_deref(), Some(value), "a visitor reads");
            seen += 1;
            seen < 3
        });
        assert!(result.is_ok());
        assert_eq!(seen, 3);
    }
}

fn tables_are_apart(store: &impl Store) {
    put(store, Table::Members, b"apart", b"members");
    put(store, Table::Memberships, b"apart", b"memberships");
    assert_eq!(get(store, Table::Members, b"apart").as_deref(), Some(&b"members"[..]));
    assert_eq!(get(store, Table::Memberships, b"apart").as_deref(), Some(&b"memberships"[..]));
    assert_eq!(get(store, Table::Devices, b"apart"), None);
}

fn values_of_any_size(store: &impl Store) {
    for (n, size) in [0, 1, 100, 4_095, 4_096, 70_000, 1_000_000].into_iter().enumerate() {
        let byte = b'a' + u8::try_from(n).unwrap_or_default();
        let value = vec![byte; size];
        put(store, Table::Messages, &[byte], &value);
        assert_eq!(get(store, Table::Messages, &[byte]).as_deref(), Some(&value[..]));
    }
    let long = vec![b'k'; 700];
    put(store, Table::Memberships, &long, b"a long key");
    assert_eq!(get(store, Table::Memberships, &long).as_deref(), Some(&b"a long key"[..]));
}

fn clones_are_handles(store: &impl Store) {
    let other = store.clone();
    let thread = std::thread::spawn(move || put(&other, Table::Devices, b"from a clone", b"1"));
    assert!(thread.join().is_ok());
    assert_eq!(get(store, Table::Devices, b"from a clone").as_deref(), Some(&b"1"[..]));
}

fn commit(store: &impl Store, batch: &Batch) {
    if let Err(error) = store.commit(batch) {
        panic!("the commit failed: {error}");
    }
}

fn put(store: &impl Store, table: Table, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(table, key.to_vec(), value.to_vec());
    commit(store, &batch);
}

fn get(store: &impl Store, table: Table, key: &[u8]) -> Option<Bytes> {
    match store.get(table, key) {
        Ok(value) => value,
        Err(error) => panic!("the read failed: {error}"),
    }
}

type Row = (Vec<u8>, Vec<u8>);

fn rows(store: &impl Store, table: Table, from: &[u8], to: &[u8], order: Order) -> Vec<Row> {
    let mut rows = Vec::new();
    let result = store.scan(table, from, to, order, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        true
    });
    assert!(result.is_ok(), "the scan failed");
    rows
}

fn dump(store: &impl Store) -> Vec<(Table, Row)> {
    let all = |table| rows(store, table, b"", b"\xff", Order::Ascending).into_iter();
    Table::ALL.into_iter().flat_map(|table| all(table).map(move |row| (table, row))).collect()
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
