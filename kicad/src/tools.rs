// SPDX-License-Identifier: Apache-2.0
//! Running `kicad-cli`: with KiCad's own library tables in a fresh configuration, so that a user's settings change nothing.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where KiCad's template tables of libraries are.
const TEMPLATES: &str = "/usr/share/kicad/template";

/// KiCad's folder in its configuration, named after its version.
const VERSION: &str = "9.0";

/// Why KiCad gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum KicadError {
    /// It is not installed, or its configuration cannot be written.
    #[error(
        "start kicad-cli 9 (Debian's packages `kicad`, `kicad-symbols` and `kicad-footprints`)"
    )]
    Start(#[source] io::Error),
    /// It says no.
    #[error("kicad-cli {command}: {said}")]
    Failed {
        /// What it was asked for.
        command: String,
        /// Its last words.
        said: String,
    },
    /// What it wrote cannot be read.
    #[error("read {path}, which kicad-cli was to write")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// KiCad with a configuration of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct Kicad {
    folder: tempfile::TempDir,
}

impl Kicad {
    /// Whether it is installed.
    #[must_use]
    pub fn is_installed() -> bool {
        Command::new("kicad-cli")
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// A fresh configuration with the stock libraries.
    ///
    /// # Errors
    /// [`KicadError::Start`].
    pub fn new() -> Result<Self, KicadError> {
        let folder = tempfile::tempdir().map_err(KicadError::Start)?;
        let tables = folder.path().join(VERSION);
        fs::create_dir_all(&tables).map_err(KicadError::Start)?;
        for table in ["sym-lib-table", "fp-lib-table"] {
            fs::copy(Path::new(TEMPLATES).join(table), tables.join(table))
                .map_err(KicadError::Start)?;
        }
        Ok(Self { folder })
    }

    /// Runs it; with success only if it says so.
    ///
    /// # Errors
    /// [`KicadError`].
    pub fn run<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Result<(), KicadError> {
        let mut command = Command::new("kicad-cli");
        command
            .args(arguments)
            .env("KICAD_CONFIG_HOME", self.folder.path())
            .stdin(Stdio::null());
        let output = command.output().map_err(KicadError::Start)?;
        if output.status.success() {
            return Ok(());
        }
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let said = [output.stdout, output.stderr].concat();
        Err(KicadError::Failed {
            command: words.join(" "),
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        })
    }

    /// What the electrical rules check finds at any severity: nothing, or its report as the error.
    ///
    /// # Errors
    /// [`KicadError`].
    pub fn check_schematic(&self, root: &Path) -> Result<(), KicadError> {
        let report = self.folder.path().join("erc.rpt");
        let ran = self.run([
            OsStr::new("sch"),
            OsStr::new("erc"),
            OsStr::new("--severity-all"),
            OsStr::new("--exit-code-violations"),
            OsStr::new("-o"),
            report.as_os_str(),
            root.as_os_str(),
        ]);
        match ran {
            Err(KicadError::Failed { command, said }) => {
                let report = fs::read_to_string(&report).unwrap_or_default();
                Err(KicadError::Failed {
                    command,
                    said: format!("{said}\n{report}"),
                })
            }
            other => other,
        }
    }

    /// The netlist of the schematic, as KiCad reads it from the drawing.
    ///
    /// # Errors
    /// [`KicadError`].
    pub fn netlist(&self, root: &Path) -> Result<String, KicadError> {
        let path = self.folder.path().join("netlist");
        self.run([
            OsStr::new("sch"),
            OsStr::new("export"),
            OsStr::new("netlist"),
            OsStr::new("--format"),
            OsStr::new("kicadsexpr"),
            OsStr::new("-o"),
            path.as_os_str(),
            root.as_os_str(),
        ])?;
        fs::read_to_string(&path).map_err(|error| KicadError::Read { path, error })
    }

    /// Writes the schematic's pages as PDF.
    ///
    /// # Errors
    /// [`KicadError`].
    pub fn schematic_pdf(&self, root: &Path, pdf: &Path) -> Result<(), KicadError> {
        self.run([
            OsStr::new("sch"),
            OsStr::new("export"),
            OsStr::new("pdf"),
            OsStr::new("-o"),
            pdf.as_os_str(),
            root.as_os_str(),
        ])
    }
}
