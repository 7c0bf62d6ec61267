// SPDX-License-Identifier: Apache-2.0
//! The boards' projects from the circuits, and what fabs receive from the projects. `cargo xtask hardware` starts it.
//!
//! ```text
//! circuits ─ schematics, boards ─▶ kicad/<board>/ (committed) ─ release ─▶ target/racklet/hardware/<board>/
//!    └───────────── check: made again in a copy, compared byte by byte; ERC, DRC, copper, mutations ─────┘
//! ```
#![forbid(unsafe_code)]

mod make;
mod spice;
mod tables;

use std::{
    collections::VecDeque,
    env,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use racklet_kicad::{
    boards,
    bom::{self, Parts},
    check::project::Link,
    cli::{Kicad, Project},
    generate, gerber, outputs,
};

const USAGE: &str = "\
hardware COMMAND
  make                      the projects anew from circuits and layouts, then every check of them
  check                     changes nothing: what is committed is what would be made, and passes every check
  release TO IBOM [DOCS]    what fabs receive, into TO/<board>; IBOM is InteractiveHtmlBom; pictures for documents into DOCS
  board NAME FOLDER         lays out and routes one board into its project's folder
  judge FOLDER              runs the chain of checks over a project; the folder is named like the circuit
  copper FOLDER NETS        what the copper of a folder of Gerbers does otherwise than an IPC-D-356 file says
  spice                     runs all simulations; decks into kicad/spice, plots into docs/hardware/spice
  tables                    writes the computed tables into docs/hardware";

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        ["make"] => {
            circuits_are_good()?;
            let boards = make::drawn(&folder())?;
            let made = boards
                .iter()
                .map(|board| task(|| make::project(&board.design, &folder(), true)));
            at_once(made.collect())?;
            let projects = Project::all(&folder())?;
            at_once(projects.iter().map(judged).collect())
        }
        ["check"] => {
            circuits_are_good()?;
            let boards = make::drawn(&folder())?;
            let projects = Project::all(&folder())?;
            let same = boards
                .iter()
                .map(|board| task(|| make::committed_is_generated(&board.design, &folder())));
            at_once(same.chain(projects.iter().map(judged)).collect())
        }
        ["release", to, ibom] => release(to.as_ref(), ibom.as_ref(), None),
        ["release", to, ibom, documents] => {
            release(to.as_ref(), ibom.as_ref(), Some(documents.as_ref()))
        }
        ["board", name, folder] => Ok(generate::boards(name, folder.as_ref())?),
        ["judge", folder] => {
            let folder = std::path::absolute(folder)?;
            let name = folder.file_name().context("which folder?")?;
            let name = name.to_string_lossy().into_owned();
            judge(&Kicad::new()?, &Project { folder, name })
        }
        ["copper", folder, nets] => {
            let read = gerber::Fabrication::read(folder.as_ref(), nets.as_ref())?;
            none_found("copper", &read.findings(None))
        }
        ["spice"] => spice::run(),
        ["tables"] => tables::write(),
        _ => bail!("{USAGE}"),
    }
}

/// The folder with the projects, one each.
fn folder() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn circuits_are_good() -> Result<()> {
    let boards = boards::all();
    let faults = boards::faults(&boards);
    let mut faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let parts = Parts::ours().context("kicad/parts.toml")?;
    let priced = bom::check::faults(&parts, &boards, bom::Date::today());
    faults.extend(priced.iter().map(ToString::to_string));
    none_found("circuits, parts and prices", &faults)
}

/// What can be done beside others like it.
type Task<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

fn task<'a>(work: impl FnOnce() -> Result<()> + Send + 'a) -> Task<'a> {
    Box::new(work)
}

/// Does all of them, as many at a time as there are processors, and tells of everything that failed.
fn at_once(tasks: Vec<Task<'_>>) -> Result<()> {
    let queue = Mutex::new(VecDeque::from(tasks));
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, NonZero::get) {
            scope.spawn(|| {
                while let Some(task) = next() {
                    if let Err(error) = task() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// The whole chain of checks over a project that is committed.
fn judged(project: &Project) -> Task<'_> {
    task(|| judge(&Kicad::new()?, project))
}

/// Every link of the chain; those of the board where there is one.
fn judge(kicad: &Kicad, project: &Project) -> Result<()> {
    let name = &project.name;
    let Some(board) = boards::find(name) else {
        bail!("{} is a project of no board", project.folder.display());
    };
    let has_board = project.file("kicad_pcb").is_file();
    for link in Link::ALL {
        if link.is_of_the_board() && !has_board {
            continue;
        }
        // A copy: KiCad leaves files beside what it reads.
        let scratch = tempfile::tempdir()?;
        let copy = project.copied(scratch.path())?;
        let found = link.findings(kicad, &copy, &board)?;
        none_found(&format!("{name}: {}", link.title()), &found)?;
    }
    Ok(())
}

/// The release folders, and the pictures that documents show if their folder is given.
fn release(to: &Path, ibom: &Path, documents: Option<&Path>) -> Result<()> {
    let kicad = Kicad::new()?;
    for project in Project::all(&folder())? {
        if !project.file("kicad_pcb").is_file() {
            continue;
        }
        let name = &project.name;
        let board = boards::find(name);
        println!("{name}: release folder");
        outputs::release(
            &kicad,
            &project,
            board.as_ref().map(|board| &board.design),
            Some(ibom),
            &to.join(name),
        )?;
        if let Some(documents) = documents {
            let scratch = tempfile::tempdir()?;
            let copy = project.copied(scratch.path())?;
            outputs::pictures(&kicad, &copy, (1000, 750), documents)?;
        }
    }
    Ok(())
}

/// Says that a check is passed, or fails with what it found.
fn none_found(check: &str, found: &[impl std::fmt::Display]) -> Result<()> {
    let lines: Vec<String> = found
        .iter()
        .map(|finding| format!("\n  {finding}"))
        .collect();
    ensure!(
        found.is_empty(),
        "{check}: {} findings:{}",
        found.len(),
        lines.concat()
    );
    println!("{check}: good");
    Ok(())
}
