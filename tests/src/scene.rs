// SPDX-License-Identifier: Apache-2.0
//! Everything an end-to-end test starts from: a server, a rack on it, the image of its tray. What they all said stays in
//! `target/e2e/<name>/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    artifacts::{Artifacts, target},
    process::output,
    qemu::{Machine, Tray},
    rack::{Rack, UP, WORKLOAD},
    servers::GitServer,
    until,
};

/// See the module.
#[derive(Debug)]
pub struct Scene {
    /// The rack, as its owner has it.
    pub rack: Rack,
    /// Where it is hosted.
    pub server: GitServer,
    /// What was built.
    pub artifacts: Artifacts,
    image: PathBuf,
    folder: PathBuf,
    /// Goes last: the server's sockets and logs are in it.
    _scratch: tempfile::TempDir,
}

impl Scene {
    /// Makes the scene of the test `name`.
    ///
    /// # Errors
    /// When something is missing or fails; with what it said.
    pub fn new(name: &str) -> Result<Self> {
        Self::with_arguments(name, "")
    }

    /// Makes the scene of the test `name`, with more arguments for the kernels of bootstrap and payload.
    ///
    /// # Errors
    /// When something is missing or fails; with what it said.
    pub fn with_arguments(name: &str, arguments: &str) -> Result<Self> {
        let artifacts = Artifacts::find()?;
        let folder = target().join("e2e").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
        // Short, because of the sockets in it.
        let scratch = tempfile::Builder::new().prefix("racklet-").tempdir()?;
        let server = GitServer::start(&scratch.path().join("server"))?;
        let rack = Rack::create("rack", &folder.join("rack"), &artifacts, arguments, &server)?;
        let image = rack.image_with(&artifacts, arguments)?;
        Ok(Self {
            rack,
            server,
            artifacts,
            image,
            folder,
            _scratch: scratch,
        })
    }

    /// Switches on a tray with a new card.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn boot(&self) -> Result<Tray> {
        self.boot_on(&Machine::default())
    }

    /// Switches on a tray with a new card in this machine.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn boot_on(&self, machine: &Machine) -> Result<Tray> {
        Tray::boot("tray-1", &self.tray(), &self.image, machine)
    }

    /// Switches on the tray with the card it had, as a power cut left it.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn boot_again(&self) -> Result<Tray> {
        self.boot_again_on(&Machine::default())
    }

    /// As [`Scene::boot_again`], in this machine.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn boot_again_on(&self, machine: &Machine) -> Result<Tray> {
        Tray::switch_on("tray-1", &self.tray(), machine)
    }

    /// The file that is the tray's card.
    #[must_use]
    pub fn card(&self) -> PathBuf {
        self.tray().join("card.img")
    }

    /// Where the tray's card and logs are.
    #[must_use]
    pub fn tray(&self) -> PathBuf {
        self.folder.join("tray")
    }

    /// The image its card begins as.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Waits until the workload has said `message`, by `racklet logs`.
    ///
    /// # Errors
    /// When it does not in time: with the log and the end of the console.
    pub fn says(&self, tray: &mut Tray, message: &str) -> Result<()> {
        let wanted = format!("serving: {message}");
        let api = tray.api();
        poll(tray, &format!("the workload says {wanted:?}"), || {
            let log = self.rack.logs(api, WORKLOAD)?;
            ensure!(log.contains(&wanted), "its log is\n{log}");
            Ok(())
        })
    }

    /// Waits until `racklet status` gives a state of which `is` holds, and gives that.
    ///
    /// # Errors
    /// When it does not in time: with the last state and the end of the console.
    pub fn state(&self, tray: &mut Tray, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let api = tray.api();
        poll(tray, what, || {
            let state = self.rack.status(api)?;
            ensure!(is(&state), "the state is {state}");
            Ok(state)
        })
    }
}

/// Polls until `probe` succeeds; a tray that is off is an error at once.
fn poll<T>(tray: &mut Tray, what: &str, probe: impl FnMut() -> Result<T>) -> Result<T> {
    let console = tray.console().path().to_owned();
    until::poll(what, UP, &console, || tray.check(), probe)
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Evidence; a test does not fail for want of it.
        let _ = output(
            Command::new("cp")
                .arg("-r")
                .arg(self.server.logs())
                .arg(self.folder.join("server-log")),
        );
        // Gigabytes, though sparse, that nobody looks into after a success.
        if !std::thread::panicking() {
            let _ = fs::remove_file(self.tray().join("card.img"));
        }
    }
}
