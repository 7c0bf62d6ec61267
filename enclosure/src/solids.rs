// SPDX-License-Identifier: Apache-2.0
//! The solids that OpenSCAD makes of the sources and the parameters, each as it lies on the bed and as it stands in the rack.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io, thread};

use racklet_boards::dimensions::{self, Dimensions};

use crate::latch;
use crate::layout::Layout;
use crate::mesh::{Mesh, NotStl};

/// The sources.
const SOURCE: &str = include_str!("../scad/racklet.scad");

/// Parts of the case, one each.
pub const CASE: [&str; 8] = [
    "base",
    "left-wall",
    "right-wall",
    "divider",
    "front",
    "rear-wall",
    "deck",
    "top",
];

/// Why there are no solids.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A file could not be written or read.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// OpenSCAD did not start.
    #[error("start openscad: `cargo xtask doctor` says how to install it")]
    Start(#[source] io::Error),
    /// OpenSCAD found a mistake.
    #[error("openscad on {part}: {said}")]
    OpenScad {
        /// Which part.
        part: String,
        /// What it said.
        said: String,
    },
    /// OpenSCAD wrote something else.
    #[error("{part}")]
    Stl {
        /// Which part.
        part: String,
        /// What is wrong.
        source: NotStl,
    },
}

/// A printed part.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its file's name, without the ending.
    pub name: String,
    /// As it lies on the bed.
    pub printed: Mesh,
    /// As it stands in the rack; a tray in slot 1.
    pub placed: Mesh,
    /// How many a rack has; of trays, if all hosts are alike.
    pub count: u32,
    /// A tray's latch, as it moves.
    pub latch: Option<latch::Solids>,
}

/// Whether OpenSCAD is there.
#[must_use]
pub fn available() -> bool {
    Command::new("openscad").arg("--version").output().is_ok()
}

/// The hosts: every board that has parts facing the front.
#[must_use]
pub fn hosts() -> Vec<Dimensions> {
    let all = dimensions::all().into_iter();
    all.filter(|board| board.bodies.iter().any(|body| body.front))
        .collect()
}

/// Makes all parts; STL files for the printer are in `out`, sources in `out/scad`.
///
/// # Errors
/// [`Failed`].
pub fn make(layout: &Layout, out: &Path) -> Result<Vec<Part>, Failed> {
    let hosts = hosts();
    let case = CASE.map(|name| (name.to_owned(), &hosts[0], 1));
    let trays = hosts
        .iter()
        .map(|host| (format!("tray-{}", host.name), host, layout.rack.slots));
    let wanted: Vec<_> = case.into_iter().chain(trays).collect();
    // OpenSCAD uses one processor; each part has its own files.
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        while let Some((name, host, count)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            made.push((name, part(layout, host, out, name, *count)));
        }
        made
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut made: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done = running.into_iter().map(|worker| worker.join());
        done.flat_map(|made| made.expect("makes parts or says why not"))
            .collect()
    });
    let place = |name: &str| wanted.iter().position(|(wanted, ..)| wanted == name);
    made.sort_by_key(|(name, _)| place(name));
    made.into_iter().map(|(_, part)| part).collect()
}

/// Makes one part.
///
/// # Errors
/// [`Failed`].
pub fn part(
    layout: &Layout,
    host: &Dimensions,
    out: &Path,
    name: &str,
    count: u32,
) -> Result<Part, Failed> {
    let scad = out.join("scad");
    fs::create_dir_all(&scad).map_err(|source| Failed::File {
        path: scad.clone(),
        source,
    })?;
    let mesh = |verb: &str, file: PathBuf| -> Result<Mesh, Failed> {
        let source = scad.join(format!("{verb}-{name}.scad"));
        let head = layout.parameters(host);
        write(&source, &format!("{head}\n{SOURCE}\n{verb}(\"{name}\");\n"))?;
        run(
            name,
            Command::new("openscad").arg("-o").arg(&file).arg(&source),
        )?;
        let text =
            fs::read_to_string(&file).map_err(|source| Failed::File { path: file, source })?;
        Mesh::parse(&text).map_err(|source| Failed::Stl {
            part: name.to_owned(),
            source,
        })
    };
    let aside = |verb: &str| mesh(verb, scad.join(format!("{name}.{verb}.stl")));
    let latch = if CASE.contains(&name) {
        None
    } else {
        Some(latch::Solids {
            pressed: aside("pressed")?,
            arm: aside("arm_pressed")?,
            body: aside("body")?,
        })
    };
    Ok(Part {
        name: name.to_owned(),
        printed: mesh("print", out.join(format!("{name}.stl")))?,
        placed: mesh("place", scad.join(format!("{name}.placed.stl")))?,
        count,
        latch,
    })
}

/// Runs OpenSCAD; a warning is a mistake.
pub(crate) fn run(part: &str, command: &mut Command) -> Result<(), Failed> {
    let output = command.output().map_err(Failed::Start)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || said.contains("WARNING") || said.contains("ERROR") {
        return Err(Failed::OpenScad {
            part: part.to_owned(),
            said,
        });
    }
    Ok(())
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failed> {
    fs::write(path, text).map_err(|source| Failed::File {
        path: path.to_owned(),
        source,
    })
}
