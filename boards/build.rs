// SPDX-License-Identifier: Apache-2.0
//! Finds what is on the three shelves: every folder in `trays/` is a board that trays are built on, every folder in
//! `controllers/` a board of ours with its controller's pins, every file in `shapes/` the outline of a board that others make.
//! Nothing lists them by hand, and a folder that lacks its file fails the build rather than being left out in silence.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/pins.rs"]
mod pins;

fn main() {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    // Cargo looks into the folders, too.
    for shelf in ["trays", "controllers", "shapes"] {
        println!("cargo::rerun-if-changed={}", here.join(shelf).display());
    }
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let write = |name: &str, code: String| {
        fs::write(Path::new(&out).join(name), code).expect("cargo's output folder is writable");
    };
    let controllers = here.join("controllers");
    let mut dimensions = folders(&controllers, "dimensions.toml");
    dimensions.extend(files(&here.join("shapes")));
    dimensions.sort();
    write(
        "boards.rs",
        texts(&folders(&here.join("trays"), "board.toml")),
    );
    write("dimensions.rs", texts(&dimensions));
    write(
        "pins.rs",
        pins::constants(&folders(&controllers, "pins.toml")),
    );
}

/// Every folder of the shelf, by name, and its file called `file`.
fn folders(shelf: &Path, file: &str) -> Vec<(String, PathBuf)> {
    let found = entries(shelf).map(|folder| {
        let path = folder.join(file);
        assert!(path.is_file(), "{} is missing", path.display());
        (name(folder.file_name()), path)
    });
    sorted(found)
}

/// Every file of the shelf, by its name without the ending.
fn files(shelf: &Path) -> Vec<(String, PathBuf)> {
    sorted(entries(shelf).map(|path| (name(path.file_stem()), path)))
}

fn entries(shelf: &Path) -> impl Iterator<Item = PathBuf> {
    let listed = fs::read_dir(shelf).expect("the crate's own folder is readable");
    listed.map(|entry| entry.expect("the crate's own folder is readable").path())
}

fn name(part: Option<&std::ffi::OsStr>) -> String {
    let name = part.and_then(|name| name.to_str());
    name.expect("names on the shelves are UTF-8").to_owned()
}

fn sorted(found: impl Iterator<Item = (String, PathBuf)>) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = found.collect();
    found.sort();
    found
}

/// The files' texts, by name.
fn texts(found: &[(String, PathBuf)]) -> String {
    let mut code = String::from("&[\n");
    for (name, path) in found {
        writeln!(
            code,
            "    ({name:?}, include_str!({:?})),",
            path.display().to_string()
        )
        .expect("strings grow");
    }
    code.push(']');
    code
}
