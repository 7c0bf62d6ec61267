// SPDX-License-Identifier: Apache-2.0
//! Finds the boards: every folder with a `board.toml` is one. Nothing lists them by hand.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed={here}");
    let mut found: Vec<_> = fs::read_dir(&here)
        .expect("the crate's own folder is readable")
        .flatten()
        .map(|entry| entry.path().join("board.toml"))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    let mut code = String::from("&[\n");
    for path in found {
        println!("cargo::rerun-if-changed={}", path.display());
        let folder = path
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str())
            .expect("a UTF-8 folder name");
        writeln!(
            code,
            "    ({folder:?}, include_str!({:?})),",
            path.display().to_string()
        )
        .expect("strings grow");
    }
    code.push(']');
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("boards.rs"), code).expect("cargo's output folder is writable");
}
