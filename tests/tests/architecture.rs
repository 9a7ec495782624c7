//! Holds the drawing of ARCHITECTURE.md to the code: who may depend on whom, what a core may not reach for, and that
//! the pages name what exists.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod architecture {
    mod arrows;
    mod cores;
    mod imports;
    mod pages;
    mod tree;
}
