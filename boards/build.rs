// SPDX-License-Identifier: Apache-2.0
//! Finds the boards: every folder with a `board.toml` is one that images are built for, every folder with a `pins.toml`
//! a controller whose pins become constants. Nothing lists them by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/pins.rs"]
mod pins;

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed={here}");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let write = |name: &str, code: String| {
        fs::write(Path::new(&out).join(name), code).expect("cargo's output folder is writable");
    };
    write("boards.rs", texts(&found(&here, "board.toml")));
    write("dimensions.rs", texts(&found(&here, "dimensions.toml")));
    write("pins.rs", pins::constants(&found(&here, "pins.toml")));
}

/// Every folder that has the file, and the file.
fn found(here: &str, file: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(here)
        .expect("the crate's own folder is readable")
        .flatten()
        .map(|entry| entry.path().join(file))
        .filter(|path| path.exists())
        .map(|path| {
            println!("cargo::rerun-if-changed={}", path.display());
            let folder = path
                .parent()
                .and_then(Path::file_name)
                .and_then(|name| name.to_str())
                .expect("a UTF-8 folder name");
            (folder.to_owned(), path)
        })
        .collect();
    found.sort();
    found
}

/// The files' texts, by folder.
fn texts(found: &[(String, PathBuf)]) -> String {
    let mut code = String::from("&[\n");
    for (folder, path) in found {
        writeln!(
            code,
            "    ({folder:?}, include_str!({:?})),",
            path.display().to_string()
        )
        .expect("strings grow");
    }
    code.push(']');
    code
}
