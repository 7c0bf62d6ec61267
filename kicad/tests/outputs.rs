// SPDX-License-Identifier: Apache-2.0
//! The release of each committed board, where KiCad is installed: complete, the same twice, and with copper as meant.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use racklet_kicad::{cli::Kicad, outputs};

mod boards;

/// KiCad, if it is here.
fn kicad() -> Option<Kicad> {
    if !Kicad::is_installed() {
        eprintln!("left out: KiCad 9 is not installed (`cargo xtask hardware` installs it)");
        return None;
    }
    Some(Kicad::new().unwrap())
}

fn files(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for path in fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()) {
        match path.is_dir() {
            true => files(&path, into),
            false => drop(into.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
}

#[test]
fn a_release_is_complete_and_the_same_twice() {
    let Some(kicad) = kicad() else { return };
    let folder = tempfile::tempdir().unwrap();
    let project = boards::two_resistors(folder.path(), |board| board);
    let mut design = boards::intent();
    // Called a HAT's EEPROM: its images belong to the release.
    design.parts[0].bom = Some("24lc32");
    let made = || {
        let to = folder.path().join("release");
        outputs::release(&kicad, &project, Some(&design), None, &to).unwrap();
        let mut found = BTreeMap::new();
        files(&to, &mut found);
        found
    };
    let (one, two) = (made(), made());
    for ending in [
        "F_Cu.gbr",
        "B_Cu.gbr",
        "Edge_Cuts.gbr",
        "PTH.drl",
        "gerbers.zip",
        "placement.csv",
        "bom.csv",
        "two-hat-pi4.eep",
        "two-hat-pi5.eep",
        "two.d356",
        "two.step",
        "top.png",
        "bottom.png",
    ] {
        let is_there = |path: &PathBuf| path.to_string_lossy().ends_with(ending);
        assert!(one.keys().any(is_there), "{ending}: {:?}", one.keys());
    }
    assert!(one.keys().eq(two.keys()));
    for (path, bytes) in &one {
        assert!(!bytes.is_empty(), "{}", path.display());
        assert!(*bytes == two[path], "{} differs", path.display());
    }
}

/// What is found in the copper of the changed board.
fn found(change: impl Fn(String) -> String) -> Option<Vec<String>> {
    let kicad = kicad()?;
    let folder = tempfile::tempdir().unwrap();
    let project = boards::two_resistors(folder.path(), change);
    let found = outputs::copper(&kicad, &project, Some(&boards::intent())).unwrap();
    let mut said: Vec<String> = found.iter().map(ToString::to_string).collect();
    said.dedup();
    Some(said)
}

#[test]
fn kicads_own_files_are_read_as_they_are_meant() {
    if let Some(found) = found(|board| board) {
        assert_eq!(found, [""; 0]);
    }
}

#[test]
fn a_segment_that_is_removed_from_the_board_is_an_open() {
    let remove =
        |board: String| board.replace("(segment (start 104 95)", "(gr_line (start 104 95)");
    let remove = |board: String| {
        remove(board).replace(
            "(end 114 95) (width 0.25) (layer \"F.Cu\") (net 1)",
            "(end 114 95) (layer \"F.SilkS\")",
        )
    };
    if let Some(found) = found(remove) {
        assert_eq!(found[0], "open: A is in 2 pieces: R1.1 | R2.1");
    }
}

#[test]
fn a_segment_that_crosses_another_net_is_a_short_whatever_it_is_called() {
    let add = |board: String| {
        let more = "(segment (start 104 100) (end 106 100) (width 0.25) (layer \"F.Cu\") (net 1))";
        board.replace("\t(via (at 106", &format!("\t{more}\n\t(via (at 106"))
    };
    if let Some(found) = found(add) {
        assert_eq!(
            found[0],
            "short: A at R1.1 and B at R1.2 are one piece of copper"
        );
    }
}

#[test]
fn nets_that_are_swapped_on_the_board_are_not_the_intents() {
    let swap = |board: String| {
        let second = board.rfind("(pad \"1\"").unwrap();
        let (first, second) = board.split_at(second);
        let swapped =
            second
                .replacen("(pad \"1\"", "(pad \"9\"", 1)
                .replacen("(pad \"2\"", "(pad \"1\"", 1);
        format!("{first}{}", swapped.replacen("(pad \"9\"", "(pad \"2\"", 1))
    };
    if let Some(found) = found(swap) {
        assert!(
            found
                .iter()
                .any(|it| it.starts_with("short: A at R1.1 and B at R2.2")),
            "{found:?}"
        );
    }
}
