//! The browser SDK of Hongyan: the client core in WebAssembly, and what joins it to a page.
//!
//! `driver` is one tab's part: it joins the page, the other tabs and, while it leads, the `engine` (the core with its
//! cache and its socket); `calls` are what an application may ask, `notes` what tabs say to each other; `platform` is
//! the seam to the host; `exports` are the functions that the TypeScript layer (`js/`) calls; `types` and `convert`
//! make plain data of the core's views.
//!
//! *Invariant:* no rule of chat is decided here, and no function of the application runs while a machine is borrowed.

mod calls;
mod convert;
mod driver;
mod engine;
#[allow(unreachable_pub, reason = "wasm-bindgen exports what is public")]
mod exports;
mod notes;
mod platform;
mod text;
#[allow(
    missing_docs,
    unreachable_pub,
    reason = "tsify declares what is public, and documents nothing itself"
)]
mod types;
