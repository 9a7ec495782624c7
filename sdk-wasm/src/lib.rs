//! The browser SDK of Hongyan: the client core in WebAssembly, and what joins it to a page.
//!
//! `driver` turns what happens into the core's inputs and carries out its outputs; `platform` is the seam to the
//! host (socket, cache, clock, page); `exports` are the functions that the TypeScript layer (`js/`) calls;
//! `types` and `convert` make plain data of the core's views.
//!
//! *Invariant:* no rule of chat is decided here, and no function of the application runs while the core is borrowed.

mod convert;
mod driver;
#[allow(unreachable_pub, reason = "wasm-bindgen exports what is public")]
mod exports;
mod platform;
#[allow(
    missing_docs,
    unreachable_pub,
    reason = "tsify declares what is public, and documents nothing itself"
)]
mod types;
