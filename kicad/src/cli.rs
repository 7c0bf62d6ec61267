// SPDX-License-Identifier: Apache-2.0
//! The KiCad projects in `kicad/`, and KiCad's own word on them: ERC, DRC and every export, through `kicad-cli`.
//!
//! Projects are discovered (a folder with a `.kicad_pro` of its name), never listed.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where Debian's package keeps what a new user's configuration begins with.
const TEMPLATES: &str = "/usr/share/kicad/template";

/// Why KiCad said nothing.
#[derive(Debug, thiserror::Error)]
pub enum KicadError {
    /// It is not installed, or its configuration cannot be written.
    #[error("start {0} (KiCad 9: `cargo xtask hardware` installs it)")]
    Start(&'static str, #[source] io::Error),
    /// A file of the project.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// It refused.
    #[error("{command} failed: {said}")]
    Failed {
        /// What was asked for.
        command: String,
        /// Its last words.
        said: String,
    },
    /// Rules are taken from it; without it KiCad takes others and finds all well.
    #[error("the project file {} is missing", .0.display())]
    NoProject(PathBuf),
}

/// A project's files.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its folder.
    pub folder: PathBuf,
    /// The stem of its files.
    pub name: String,
}

impl Project {
    /// The projects in a folder, in the order of their names.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn all(kicad: &Path) -> Result<Vec<Self>, KicadError> {
        let fault = |error| KicadError::File(kicad.to_owned(), error);
        let mut projects = Vec::new();
        for entry in fs::read_dir(kicad).map_err(fault)? {
            let folder = entry.map_err(fault)?.path();
            let Some(name) = folder.file_name().and_then(OsStr::to_str) else {
                continue;
            };
            let name = name.to_owned();
            let project = Self { folder, name };
            if project.file("kicad_pro").is_file() {
                projects.push(project);
            }
        }
        projects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(projects)
    }

    /// Its file with this ending.
    #[must_use]
    pub fn file(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }

    /// Copies the project, and the footprints and symbols that it shares with others, to `to/<name>`.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn copied(&self, to: &Path) -> Result<Self, KicadError> {
        copy(&self.folder, &to.join(&self.name))?;
        let shared = self.folder.parent().unwrap_or(&self.folder);
        let listed =
            fs::read_dir(shared).map_err(|error| KicadError::File(shared.to_owned(), error))?;
        for path in listed.flatten().map(|entry| entry.path()) {
            let ending = path.extension().and_then(OsStr::to_str);
            if let (Some("pretty" | "kicad_sym"), Some(name)) = (ending, path.file_name()) {
                copy(&path, &to.join(name))?;
            }
        }
        Ok(Self {
            folder: to.join(&self.name),
            name: self.name.clone(),
        })
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), KicadError> {
    let fault = |error| KicadError::File(from.to_owned(), error);
    if from.is_dir() {
        fs::create_dir_all(to).map_err(fault)?;
        for entry in fs::read_dir(from).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(fault)
}

/// KiCad with a configuration of its own, so that a user's does not matter.
#[derive(Debug)]
pub struct Kicad {
    configuration: tempfile::TempDir,
}

impl Kicad {
    /// Prepares a configuration that knows the stock libraries.
    ///
    /// # Errors
    /// KiCad is not installed.
    pub fn new() -> Result<Self, KicadError> {
        let start = |error| KicadError::Start("KiCad", error);
        let configuration = tempfile::tempdir().map_err(start)?;
        let folder = configuration.path().join("9.0");
        fs::create_dir_all(&folder).map_err(start)?;
        for table in ["sym-lib-table", "fp-lib-table"] {
            let from = Path::new(TEMPLATES).join(table);
            fs::copy(&from, folder.join(table)).map_err(|error| KicadError::File(from, error))?;
        }
        Ok(Self { configuration })
    }

    /// Whether it can be used here.
    #[must_use]
    pub fn is_installed() -> bool {
        Command::new("kicad-cli")
            .arg("version")
            .stderr(Stdio::null())
            .output()
            .is_ok_and(|output| output.stdout.starts_with(b"9."))
    }

    /// A program that finds this configuration, the same time zone everywhere and no display.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("KICAD_CONFIG_HOME", self.configuration.path())
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("DISPLAY")
            .stdin(Stdio::null());
        command
    }

    /// Runs `kicad-cli` with words of a line, then the paths.
    ///
    /// # Errors
    /// It could not be started, or failed.
    pub fn run(&self, words: &str, paths: &[&Path]) -> Result<(), KicadError> {
        let mut command = self.program("kicad-cli");
        command.args(words.split_ascii_whitespace()).args(paths);
        finish(&mut command, words)
    }

    /// What ERC finds, at every severity, one line each.
    ///
    /// # Errors
    /// It could not be asked.
    pub fn erc(&self, project: &Project) -> Result<Vec<String>, KicadError> {
        self.findings("sch erc --severity-all", project, "kicad_sch")
    }

    /// What DRC finds, at every severity, the comparison with the schematic included.
    ///
    /// # Errors
    /// It could not be asked; the project file is missing.
    pub fn drc(&self, project: &Project) -> Result<Vec<String>, KicadError> {
        self.findings(
            "pcb drc --severity-all --schematic-parity --all-track-errors",
            project,
            "kicad_pcb",
        )
    }

    /// The netlist of a schematic (its root file), as KiCad reads it from the drawing: an s-expression.
    ///
    /// # Errors
    /// It could not be asked.
    pub fn netlist(&self, schematic: &Path) -> Result<String, KicadError> {
        self.written("sch export netlist --format kicadsexpr -o", schematic)
    }

    fn findings(
        &self,
        words: &str,
        project: &Project,
        ending: &str,
    ) -> Result<Vec<String>, KicadError> {
        if !project.file("kicad_pro").is_file() {
            return Err(KicadError::NoProject(project.file("kicad_pro")));
        }
        let words = format!("{words} --units mm --format report -o");
        Ok(found_in(&self.written(&words, &project.file(ending))?))
    }

    /// What `kicad-cli` writes of `file`, when told by words of a line.
    fn written(&self, words: &str, file: &Path) -> Result<String, KicadError> {
        let start = |error| KicadError::Start("kicad-cli", error);
        let scratch = tempfile::tempdir().map_err(start)?;
        let out = scratch.path().join("out");
        self.run(words, &[&out, file])?;
        fs::read_to_string(&out).map_err(|error| KicadError::File(out, error))
    }
}

/// The findings of a report: `[kind]: text`, with the places that follow it.
fn found_in(report: &str) -> Vec<String> {
    let mut findings: Vec<String> = Vec::new();
    for line in report.lines().map(str::trim) {
        if line.starts_with('[') {
            findings.push(line.to_owned());
        } else if let (Some(last), true) = (findings.last_mut(), line.starts_with('@')) {
            last.push(' ');
            last.push_str(line);
        }
    }
    findings
}

/// Runs a command; its last words are the error's.
pub(crate) fn finish(command: &mut Command, name: &str) -> Result<(), KicadError> {
    let output = command
        .output()
        .map_err(|error| KicadError::Start("kicad-cli", error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    Err(KicadError::Failed {
        command: name.to_owned(),
        said: lines[lines.len().saturating_sub(5)..].join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_findings_of_a_report_are_its_bracketed_lines_with_their_places() {
        let report = "** Drc report for x **\n** Found 1 DRC violations **\n[clearance]: Clearance violation (0.15 mm)\n    \
                      Rule: x; error\n    @(1.00 mm, 2.00 mm): Track [GND] on F.Cu\n\n** End of Report **\n";
        let expected =
            "[clearance]: Clearance violation (0.15 mm) @(1.00 mm, 2.00 mm): Track [GND] on F.Cu";
        assert_eq!(found_in(report), [expected]);
    }

    #[test]
    fn projects_are_discovered_and_copied_with_what_they_share() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b/b.kicad_pro",
            "a/a.kicad_pro",
            "src/lib.rs",
            "own.pretty/x.kicad_mod",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let projects = Project::all(folder.path()).unwrap();
        let names: Vec<&str> = projects.iter().map(|project| &*project.name).collect();
        assert_eq!(names, ["a", "b"]);
        let to = tempfile::tempdir().unwrap();
        let copied = projects[0].copied(to.path()).unwrap();
        assert!(copied.file("kicad_pro").is_file());
        assert!(to.path().join("own.pretty/x.kicad_mod").is_file());
        assert!(!to.path().join("b").exists());
    }
}
