// SPDX-License-Identifier: Apache-2.0
//! What a fab, an assembler and a reader receive: one release folder per board, made by `kicad-cli` from the committed project.
//!
//! The same project gives the same bytes: dates that KiCad writes into its files are replaced by [`dates::FIXED`]
//! (see [`dates`] for which), archives have no times, and the board's file has a fixed time stamp while it is read.

pub mod dates;
pub mod zip;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    boards,
    bom::{Parts, PartsError},
    cli::{Kicad, KicadError, Project, finish},
    design::Design,
    gerber::{Fabrication, ReadError, compare::Finding},
    hat,
};

/// The layers that a fab and a stencil maker need.
const OUTER: &str = "F.Paste,B.Paste,F.Silkscreen,B.Silkscreen,F.Mask,B.Mask,Edge.Cuts";

/// Why a release was not made.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// KiCad.
    #[error("{board}: {step}")]
    Kicad {
        /// The board.
        board: String,
        /// What was being made.
        step: &'static str,
        /// Why.
        source: KicadError,
    },
    /// A file.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The bill of materials.
    #[error("the bill of materials")]
    Parts(#[from] PartsError),
    /// What was made could not be read back.
    #[error("read the Gerbers back")]
    Read(#[from] ReadError),
    /// The copper is not what it should be.
    #[error("{board}: the copper is not as meant:\n{}", .findings.iter().map(|it| format!("  {it}")).collect::<Vec<_>>().join("\n"))]
    Copper {
        /// The board.
        board: String,
        /// What is otherwise.
        findings: Vec<Finding>,
    },
}

/// Makes the release folder `to` of a project. `ibom` is the program of InteractiveHtmlBom, left out if none.
///
/// The Gerbers are read back and compared with the list of nets and with `design`.
///
/// # Errors
/// A tool that fails, a file that cannot be written, copper that is not as meant.
pub fn release(
    kicad: &Kicad,
    project: &Project,
    design: Option<&Design>,
    ibom: Option<&Path>,
    to: &Path,
) -> Result<(), OutputError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |error| OutputError::File(path, error)
    };
    let step = |step: &'static str| {
        let board = project.name.clone();
        move |source| OutputError::Kicad {
            board,
            step,
            source,
        }
    };
    if to.exists() {
        fs::remove_dir_all(to).map_err(file(to))?;
    }
    let gerbers = to.join("gerbers");
    fs::create_dir_all(&gerbers).map_err(file(&gerbers))?;
    // A copy: KiCad leaves files beside what it reads.
    let scratch = tempfile::tempdir().map_err(file(to))?;
    let project = &project.copied(scratch.path()).map_err(step("copy"))?;
    let board = project.file("kicad_pcb");
    let schematic = project.file("kicad_sch");
    let at = |ending: &str| to.join(format!("{}{ending}", project.name));

    fabrication(kicad, project, to).map_err(step("Gerbers, holes and nets"))?;
    dates::remove_in(&gerbers).map_err(file(&gerbers))?;
    let read = Fabrication::read(&gerbers, &at(".d356"))?;
    let findings = read.findings(design);
    if !findings.is_empty() {
        return Err(OutputError::Copper {
            board: project.name.clone(),
            findings,
        });
    }
    let archive = at("-gerbers.zip");
    zip::folder(&gerbers)
        .and_then(|bytes| fs::write(&archive, bytes))
        .map_err(file(&archive))?;

    kicad
        .run(
            "pcb export pos --format csv --units mm --side both --exclude-dnp -o",
            &[&at("-placement.csv"), &board],
        )
        .map_err(step("placement"))?;
    if let Some(design) = design {
        let path = at("-bom.csv");
        fs::write(&path, Parts::ours()?.csv(design)).map_err(file(&path))?;
        for (ending, bytes) in hat::files(design) {
            let path = at(&ending);
            fs::write(&path, bytes).map_err(file(&path))?;
        }
    }
    let model = at(".step");
    kicad
        .run("pcb export step --subst-models -f -o", &[&model, &board])
        .map_err(step("STEP"))?;
    dates::remove(&model).map_err(file(&model))?;
    pictures(kicad, project, (1600, 1200), to)?;
    if schematic.is_file() {
        let pdf = at("-schematic.pdf");
        kicad
            .run("sch export pdf -o", &[&pdf, &schematic])
            .map_err(step("schematic"))?;
        dates::remove(&pdf).map_err(file(&pdf))?;
    }
    if let Some(program) = ibom {
        interactive(kicad, program, &board, to).map_err(step("interactive bill of materials"))?;
    }
    Ok(())
}

/// Pictures of both sides, `to/<board>-top.png` and `to/<board>-bottom.png`, of so many pixels; upright for an upright board.
///
/// # Errors
/// KiCad.
pub fn pictures(
    kicad: &Kicad,
    project: &Project,
    (width, height): (u32, u32),
    to: &Path,
) -> Result<(), OutputError> {
    let is_upright = boards::row(&project.name).is_some_and(|row| {
        let [width, height] = row.dimensions().size;
        height > width
    });
    let (width, height) = match is_upright {
        true => (height, width),
        false => (width, height),
    };
    for side in ["top", "bottom"] {
        // Basic: the shadows of `high` take a minute each.
        let words = format!(
            "pcb render --side {side} -w {width} -h {height} --background opaque --quality basic -o"
        );
        let picture = to.join(format!("{}-{side}.png", project.name));
        kicad
            .run(&words, &[&picture, &project.file("kicad_pcb")])
            .map_err(|source| OutputError::Kicad {
                board: project.name.clone(),
                step: "picture",
                source,
            })?;
    }
    Ok(())
}

/// Gerbers and holes into `to/gerbers`, the list of nets beside it.
fn fabrication(kicad: &Kicad, project: &Project, to: &Path) -> Result<(), KicadError> {
    let board = project.file("kicad_pcb");
    let gerbers = to.join("gerbers");
    let text =
        fs::read_to_string(&board).map_err(|error| KicadError::File(board.clone(), error))?;
    let inner = (1..31)
        .map(|number| format!("In{number}.Cu"))
        .filter(|name| text.contains(&format!("\"{name}\" ")));
    let copper: Vec<String> = ["F.Cu".to_owned()]
        .into_iter()
        .chain(inner)
        .chain(["B.Cu".to_owned()])
        .collect();
    let words = format!(
        "pcb export gerbers --no-protel-ext --subtract-soldermask --layers {},{OUTER} -o",
        copper.join(",")
    );
    // A folder for KiCad ends in a slash.
    kicad.run(&words, &[&gerbers.join(""), &board])?;
    kicad.run(
        "pcb export drill --format excellon --excellon-separate-th --excellon-units mm -o",
        &[&gerbers.join(""), &board],
    )?;
    let nets = to.join(format!("{}.d356", project.name));
    kicad.run("pcb export ipcd356 -o", &[&nets, &board])
}

/// Exports copper, holes and nets alone and reads them back: what of it is not as meant.
///
/// # Errors
/// A tool that fails, files that are not understood.
pub fn copper(
    kicad: &Kicad,
    project: &Project,
    design: Option<&Design>,
) -> Result<Vec<Finding>, OutputError> {
    let scratch =
        tempfile::tempdir().map_err(|error| OutputError::File(project.folder.clone(), error))?;
    let gerbers = scratch.path().join("gerbers");
    fs::create_dir_all(&gerbers).map_err(|error| OutputError::File(gerbers.clone(), error))?;
    fabrication(kicad, project, scratch.path()).map_err(|source| OutputError::Kicad {
        board: project.name.clone(),
        step: "Gerbers, holes and nets",
        source,
    })?;
    let nets = scratch.path().join(format!("{}.d356", project.name));
    Ok(Fabrication::read(&gerbers, &nets)?.findings(design))
}

fn interactive(kicad: &Kicad, program: &Path, board: &Path, to: &Path) -> Result<(), KicadError> {
    // It shows the time stamp of the board's file.
    let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs(dates::FIXED_SECONDS);
    fs::File::options()
        .append(true)
        .open(board)
        .and_then(|file| file.set_modified(stamp))
        .map_err(|error| KicadError::File(board.to_owned(), error))?;
    let mut command = kicad.program("");
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = std::process::Command::new(program);
    command
        .envs(environment)
        .env("INTERACTIVE_HTML_BOM_NO_DISPLAY", "1")
        .args(["--no-browser", "--include-tracks", "--include-nets"])
        .args(["--name-format", "%f-ibom", "--dest-dir"])
        .arg(to)
        .arg(board);
    finish(&mut command, "InteractiveHtmlBom")
}
