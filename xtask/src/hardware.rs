// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask hardware`: the boards' projects from the circuits, and what fabs receive from the projects.
//!
//! ```text
//! circuits ─ schematics, boards ─▶ kicad/<board>/ (committed) ─ release ─▶ target/racklet/hardware/<board>/
//!    └───────────── --check: made again in a copy, compared byte by byte; ERC, DRC, copper, mutations ─────┘
//! ```

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use racklet_kicad::{
    boards::{self, Board},
    bom::{self, Parts},
    check::project::Link,
    cli::{Kicad, Project},
    generate, outputs,
};

use crate::{
    hash, ibom, packages, paths,
    progress::{run as run_step, say, step},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Changes nothing: checks that what is committed is what would be made, and that it passes every check
    #[arg(long)]
    check: bool,
    /// Leaves out the release folder
    #[arg(long)]
    no_outputs: bool,
    /// Installs what all this needs, and stops
    #[arg(long)]
    setup: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    packages::require(packages::hardware()?)?;
    if arguments.setup {
        return Ok(());
    }
    everything(arguments)?;
    if arguments.check {
        let mut tests = Command::new("cargo");
        tests
            .args(["test", "--workspace", "--test", "mutations"])
            .current_dir(paths::workspace());
        run_step(
            "mutations: every check refuses its mistake",
            "hw-mutations",
            150,
            &mut tests,
        )?;
    }
    Ok(())
}

fn everything(arguments: &Arguments) -> Result<()> {
    let folder = paths::workspace().join("kicad");
    step(
        "circuits, parts and prices",
        "hw-circuits",
        1,
        circuits_are_good,
    )?;
    step(
        "trays and case: closed, thick enough, without collisions",
        "hw-enclosure",
        45,
        || Ok(racklet_enclosure::check()?),
    )?;
    if arguments.check {
        committed_is_generated(&folder)?;
    } else {
        for Board { design, .. } in drawn(&folder)? {
            regenerate(&design, &folder, true)?;
        }
    }
    let kicad = Kicad::new()?;
    for project in Project::all(&folder)? {
        judge(&kicad, &project)?;
    }
    if !arguments.no_outputs {
        let documents = paths::workspace().join("docs/hardware");
        let documents = (!arguments.check).then_some(&*documents);
        release_all(&kicad, &folder, documents)?;
    }
    Ok(())
}

/// The full chain of checks, where KiCad is installed; `cargo xtask test` calls it.
pub(crate) fn check_if_installed() -> Result<()> {
    let missing: Vec<_> = packages::hardware()?
        .into_iter()
        .filter(|package| !package.is_there())
        .map(|package| package.name().to_owned())
        .collect();
    if !missing.is_empty() {
        say(&format!(
            "  boards and case are left out: {} not installed (`cargo xtask hardware --check` installs them)",
            missing.join(", ")
        ));
        return Ok(());
    }
    // The mutations are among the workspace's tests.
    everything(&Arguments {
        check: true,
        no_outputs: true,
        setup: false,
    })
}

fn circuits_are_good() -> Result<()> {
    let mut faults: Vec<String> = Vec::new();
    let boards = boards::all();
    faults.extend(boards::faults(&boards).iter().map(ToString::to_string));
    let parts = Parts::ours().context("kicad/parts.toml")?;
    let priced = bom::check::faults(&parts, &boards, bom::Date::today());
    faults.extend(priced.iter().map(ToString::to_string));
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// The circuits that have a project; those that have none are named.
fn drawn(folder: &Path) -> Result<Vec<Board>> {
    let projects = Project::all(folder)?;
    let (drawn, others): (Vec<_>, Vec<_>) = boards::all().into_iter().partition(|board| {
        projects
            .iter()
            .any(|project| project.name == board.row.name)
    });
    for board in others {
        say(&format!(
            "  NOT DRAWN: the circuit {} has no project kicad/{0}/ yet; it is not covered by what follows",
            board.row.name
        ));
    }
    Ok(drawn)
}

/// Makes the files of a project in `folder/<name>`; its board too unless it was never laid out.
fn regenerate(
    design: &racklet_kicad::design::Design,
    folder: &Path,
    with_board: bool,
) -> Result<()> {
    let name = design.name;
    let project = folder.join(name);
    step(
        &format!("{name}: draw the schematic"),
        "hw-schematic",
        3,
        || Ok(generate::schematics(design, &project)?),
    )?;
    let not_laid_out = || {
        say(&format!(
            "  NOT LAID OUT: {name} has no board yet; what follows does not cover it"
        ));
    };
    if !with_board {
        not_laid_out();
        return Ok(());
    }
    step(
        &format!("{name}: place, route and fill"),
        &format!("hw-board-{name}"),
        60,
        || match generate::boards(name, &project) {
            Err(generate::BoardError::Unknown(_)) => {
                not_laid_out();
                Ok(())
            }
            other => Ok(other?),
        },
    )
}

/// Makes everything again in a copy and compares.
fn committed_is_generated(folder: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut differing = BTreeSet::new();
    for Board { design, .. } in drawn(folder)? {
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
        regenerate(&design, scratch.path(), with_board)?;
        let (before, after) = (files(&committed.folder)?, files(&copy.folder)?);
        for name in before.union(&after) {
            let same =
                fs::read(committed.folder.join(name)).ok() == fs::read(copy.folder.join(name)).ok();
            if !same {
                differing.insert(format!("kicad/{}/{}", design.name, name.display()));
            }
        }
    }
    ensure!(
        differing.is_empty(),
        "these are not what the circuits and layouts give: run `cargo xtask hardware` and look at the difference:\n  {}",
        Vec::from_iter(differing).join("\n  ")
    );
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

/// Every link of the chain of checks; those of the board where there is one.
fn judge(kicad: &Kicad, project: &Project) -> Result<()> {
    let name = &project.name;
    let Some(board) = boards::find(name) else {
        bail!("kicad/{name} is a project of no board");
    };
    let has_board = project.file("kicad_pcb").is_file();
    for link in Link::ALL {
        if link.is_of_the_board() && !has_board {
            continue;
        }
        step(
            &format!("{name}: {}", link.title()),
            &format!("hw-{name}-{link:?}"),
            5,
            || {
                // A copy: KiCad leaves files beside what it reads.
                let scratch = tempfile::tempdir()?;
                let copy = project.copied(scratch.path())?;
                let found = link.findings(kicad, &copy, &board)?;
                ensure!(
                    found.is_empty(),
                    "{} findings:\n{}",
                    found.len(),
                    found.join("\n")
                );
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// The release folders, and the pictures that documents show if their folder is given.
fn release_all(kicad: &Kicad, folder: &Path, documents: Option<&Path>) -> Result<()> {
    let enclosure = paths::products()?.join("hardware/enclosure");
    step("trays and case: STL and pictures", "hw-stl", 90, || {
        Ok(racklet_enclosure::generate(
            &paths::made(enclosure)?,
            documents,
        )?)
    })?;
    let ibom = ibom::IBOM.require()?.join("generate_interactive_bom");
    for project in Project::all(folder)? {
        if !project.file("kicad_pcb").is_file() {
            continue;
        }
        let name = project.name.clone();
        let board = boards::find(&name);
        let to = paths::products()?.join("hardware").join(&name);
        step(&format!("{name}: release folder"), "hw-release", 30, || {
            Ok(outputs::release(
                kicad,
                &project,
                board.as_ref().map(|it| &it.design),
                Some(&ibom),
                &to,
            )?)
        })?;
        if let Some(documents) = documents {
            // A copy: KiCad leaves files beside what it reads.
            let scratch = tempfile::tempdir()?;
            let copy = project.copied(scratch.path())?;
            outputs::pictures(kicad, &copy, (1000, 750), documents)?;
        }
    }
    let whole = paths::products()?.join("hardware");
    sums(&whole)?;
    say(&format!("  {}", paths::short(&whole)));
    Ok(())
}

/// `SHA256SUMS` of all files of a release, as `sha256sum --check` reads it.
fn sums(folder: &Path) -> Result<()> {
    let to = folder.join("SHA256SUMS");
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("list {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path != to {
                let name = path.strip_prefix(folder)?.display();
                lines.push(format!("{}  {name}\n", hash::of_file(&path)?));
            }
        }
    }
    lines.sort_by(|a, b| a[66..].cmp(&b[66..]));
    fs::write(&to, lines.concat()).with_context(|| format!("write {}", to.display()))
}
