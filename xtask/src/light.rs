// SPDX-License-Identifier: Apache-2.0
//! Holds this program to what a door is: quick to compile, and nothing of the house in it.

use std::{collections::BTreeSet, process::Command};

use crate::{paths, process::output};

/// Packages that are compiled for it, itself included. More means that the first word after a clone comes later: say what for.
const AT_MOST: usize = 8;

/// Names and folders of the packages that are compiled for this program.
fn packages() -> BTreeSet<String> {
    let tree = output(
        Command::new("cargo")
            .current_dir(paths::workspace())
            .args(["tree", "--package", "xtask", "--edges", "normal,build"])
            .args(["--prefix", "none", "--offline", "--format", "{p}"]),
    )
    .unwrap();
    let packages: BTreeSet<String> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect();
    assert!(
        packages.iter().any(|line| line.starts_with("xtask ")),
        "{tree}"
    );
    packages
}

#[test]
fn the_door_links_none_of_our_crates() {
    // What is ours has a folder of this machine.
    let ours: Vec<String> = packages()
        .into_iter()
        .filter(|line| line.contains('/') && !line.starts_with("xtask "))
        .collect();
    assert_eq!(ours, Vec::<String>::new());
}

#[test]
fn the_door_is_light() {
    let packages = packages();
    assert!(packages.len() <= AT_MOST, "{packages:#?}");
}
