//! The program `hongyan-relay`.

fn main() {}
