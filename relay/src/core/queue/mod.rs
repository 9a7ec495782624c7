//! The reference queue as it is stored: rows of references (`rows`), how they are read.

pub(super) mod read;
pub mod rows;
