//! `hongyan-bindgen IN.wasm OUT_DIR`: writes `hongyan.js`, `hongyan.d.ts` and `hongyan_bg.wasm`.
//!
//! The program is wasm-bindgen's own library in the version that the workspace locks, so that no tool has to be
//! installed and macro, run-time and glue can't differ. `npm run build` calls it.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

/// The stem of every file that is written; the TypeScript layer imports `./wasm/hongyan.js`.
const OUT_NAME: &str = "hongyan";

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [input, out_dir] = arguments.as_slice() else {
        bail!("The arguments are the compiled module and the folder for the glue: IN.wasm OUT_DIR.");
    };

    Bindgen::new()
        .input_path(input)
        .out_name(OUT_NAME)
        .web(true)?
        .typescript(true)
        // `new URL('hongyan_bg.wasm', import.meta.url)`: what bundlers find and copy.
        .omit_default_module_path(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(out_dir)
        .with_context(|| format!("wasm-bindgen could not make the glue for {}", input.display()))
}
