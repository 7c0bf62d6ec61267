// SPDX-License-Identifier: Apache-2.0
//! Makes projects from circuits and layouts: for good, or in a copy that is compared with what is committed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use racklet_kicad::{
    boards::{self, Board},
    cli::Project,
    design::Design,
    generate,
};

/// The circuits that have a project; those that have none are named.
pub(crate) fn drawn(folder: &Path) -> Result<Vec<Board>> {
    let projects = Project::all(folder)?;
    let (drawn, others): (Vec<_>, Vec<_>) = boards::all().into_iter().partition(|board| {
        projects
            .iter()
            .any(|project| project.name == board.row.name)
    });
    for board in others {
        println!(
            "NOT DRAWN: the circuit {} has no project kicad/{0}/ yet; it is not covered by what follows",
            board.row.name
        );
    }
    Ok(drawn)
}

/// Makes the files of a project in `folder/<name>`; its board too unless it was never laid out.
pub(crate) fn project(design: &Design, folder: &Path, with_board: bool) -> Result<()> {
    let name = design.name;
    let project = folder.join(name);
    println!("{name}: draw the schematic");
    generate::schematics(design, &project)?;
    if !with_board {
        println!("NOT LAID OUT: {name} has no board yet; what follows does not cover it");
        return Ok(());
    }
    println!("{name}: place, route and fill");
    Ok(generate::boards(name, &project)?)
}

/// Makes a board's project again in a copy and compares.
pub(crate) fn committed_is_generated(design: &Design, folder: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let committed = Project {
        folder: folder.join(design.name),
        name: design.name.into(),
    };
    let copy = committed.copied(scratch.path())?;
    // What is not made anew must be missed.
    for name in files(&copy.folder)? {
        fs::remove_file(copy.folder.join(name))?;
    }
    let with_board = committed.file("kicad_pcb").is_file();
    project(design, scratch.path(), with_board)?;
    let (before, after) = (files(&committed.folder)?, files(&copy.folder)?);
    let differing: Vec<String> = before
        .union(&after)
        .filter(|name| {
            fs::read(committed.folder.join(name)).ok() != fs::read(copy.folder.join(name)).ok()
        })
        .map(|name| format!("kicad/{}/{}", design.name, name.display()))
        .collect();
    ensure!(
        differing.is_empty(),
        "these are not what the circuits and layouts give: run `cargo xtask hardware` and look at the difference:\n  {}",
        differing.join("\n  ")
    );
    println!("{}: made again, the same", design.name);
    Ok(())
}

/// The project's own files; what a person's KiCad leaves beside them is in `.gitignore`.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = PathBuf::from(entry?.file_name());
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let table = path.to_string_lossy().ends_with("-lib-table");
        if table
            || matches!(
                &*ending,
                "kicad_pro" | "kicad_sch" | "kicad_pcb" | "kicad_dru"
            )
        {
            names.insert(path);
        }
    }
    Ok(names)
}
