//! Any bytes as a row of a queue.

use hongyan_protocol::Pos;
use hongyan_relay::core::queue::rows::Row;

/// The last position and the bytes of a row: a row that can be read is written and read again as it is.
pub fn queue_rows(data: &[u8]) {
    let Some((last, bytes)) = data.split_first_chunk::<8>() else { return };
    let last = Pos(u64::from_be_bytes(*last));
    let Ok(row) = Row::decode(last, bytes.to_vec().into()) else { return };
    assert!(!row.entries.is_empty() && row.first().0 >= 1 && row.first() <= last);
    assert_eq!(row.numbered().count(), row.entries.len());
    let again = Row::decode(last, row.encode()).expect("what was written can be read");
    assert!(again == row, "a row is another one after it was written");
}
