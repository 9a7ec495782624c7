//! The relay of Hongyan: it stores and fans out.
//!
//! [`core`](crate::core) is the relay without sockets, clock or chance, over a [`store`]; `server` (a cargo
//! feature) puts axum in front, an engine on disk below, and is the program `hongyan-relay`.

pub mod core;
#[cfg(feature = "server")]
pub mod server;
pub mod store;
