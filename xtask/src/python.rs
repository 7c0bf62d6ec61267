// SPDX-License-Identifier: Apache-2.0
//! Programs from PyPI, each in a Python environment of its own in the cache: pinned, and verified by hash before it is unpacked.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{hash, paths, process::output, progress};

/// What is installed.
pub(crate) struct Environment {
    /// The first part of its folder's name; what is pinned is the second.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) title: &'static str,
    /// Lines for pip, each with a version and a hash.
    pub(crate) requirements: &'static str,
    /// The Python it is made of.
    pub(crate) python: &'static str,
    /// More words for `venv`.
    pub(crate) options: &'static [&'static str],
    /// Seconds that a download takes.
    pub(crate) guess: u64,
}

impl Environment {
    fn folder(&self) -> Result<PathBuf> {
        let pinned = hash::of_parts([self.requirements])?;
        Ok(paths::cache()?.join(format!("{}-{}", self.name, &pinned[..16])))
    }

    /// The folder of its programs, if it is there and complete.
    pub(crate) fn present(&self) -> Result<Option<PathBuf>> {
        let folder = self.folder()?;
        let complete = folder.join("complete").is_file();
        Ok(complete.then(|| folder.join("bin")))
    }

    /// Sets it up if it is not, and gives the folder of its programs.
    pub(crate) fn require(&self) -> Result<PathBuf> {
        if let Some(bin) = self.present()? {
            return Ok(bin);
        }
        let folder = self.folder()?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let title = self.title;
        output(
            Command::new(self.python)
                .args(["-m", "venv"])
                .args(self.options)
                .arg(&folder),
        )
        .with_context(|| format!("a Python environment for {title}"))?;
        let list = folder.join("requirements.txt");
        fs::write(&list, self.requirements)?;
        progress::run(
            &format!("download {title} from PyPI"),
            self.name,
            self.guess,
            Command::new(folder.join("bin/pip"))
                .args([
                    "install",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "--require-hashes",
                    "--only-binary=:all:",
                    "-r",
                ])
                .arg(&list),
        )
        .with_context(|| {
            format!("{title} could not be had from PyPI (it must be reachable, or PIP_INDEX_URL name a mirror)")
        })?;
        fs::write(folder.join("complete"), "")?;
        Ok(folder.join("bin"))
    }
}
