//! The program `hongyan-relay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hongyan_relay::server::cli::main()
}
