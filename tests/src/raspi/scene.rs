// SPDX-License-Identifier: Apache-2.0
//! A rack with a Raspberry Pi 4 in it: its server, its repository, and the card that `racklet image build` makes. What they said stays in
//! `target/e2e/<name>/`.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use racklet_trust::Architecture;
use serde_json::Value;

use super::{Pi, Running};
use crate::{
    artifacts::{Artifacts, target},
    rack::{Rack, UP, WORKLOAD},
    servers::GitServer,
    until,
};

/// What it is.
pub const BOARD: &str = "raspberry-pi-4b";
/// Where both slots lie in an image, in bytes.
const SLOTS: std::ops::Range<u64> = 41 << 20..121 << 20;

/// See the module.
#[derive(Debug)]
pub struct Scene {
    /// The rack, as its owner has it.
    pub rack: Rack,
    /// Where it is hosted.
    pub server: GitServer,
    /// What was built.
    pub artifacts: Artifacts,
    /// The board with its card in it.
    pub pi: Pi,
    /// Goes last: the server's sockets and logs are in it.
    _scratch: tempfile::TempDir,
}

impl Scene {
    /// Makes the scene of the test `name`.
    ///
    /// # Errors
    /// When something is missing or fails; with what it said.
    pub fn new(name: &str) -> Result<Self> {
        let artifacts = Artifacts::of(Architecture::Aarch64);
        let folder = target().join("e2e").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
        }
        let scratch = tempfile::Builder::new().prefix("racklet-").tempdir()?;
        let server = GitServer::start(&scratch.path().join("server"))?;
        let rack = folder.join("rack");
        let rack = Rack::create_for(BOARD, "rack", &rack, &artifacts, "", &server)?;
        let image = rack.image(&artifacts)?;
        let pi = Pi::with(&image, &folder.join("tray"))?;
        without_watchdog(&pi.card())?;
        Ok(Self {
            rack,
            server,
            artifacts,
            pi,
            _scratch: scratch,
        })
    }

    /// Where the tray's card and logs are.
    #[must_use]
    pub fn tray(&self) -> PathBuf {
        self.pi.folder.clone()
    }

    /// Waits until the workload has said `message`, by `racklet logs`.
    ///
    /// # Errors
    /// When it does not in time: with the log and the end of the console.
    pub fn says(&self, on: &mut Running, message: &str) -> Result<()> {
        let wanted = format!("serving: {message}");
        let api = on.api();
        poll(on, &format!("the workload says {wanted:?}"), || {
            let log = self.rack.logs(api, WORKLOAD)?;
            ensure!(log.contains(&wanted), "its log is\n{log}");
            Ok(())
        })
    }

    /// Waits until `racklet status` gives a state of which `is` holds, and gives that.
    ///
    /// # Errors
    /// When it does not in time: with the last state and the end of the console.
    pub fn state(
        &self,
        on: &mut Running,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let api = on.api();
        poll(on, what, || {
            let state = self.rack.status(api)?;
            ensure!(is(&state), "the state is {state}");
            Ok(state)
        })
    }
}

/// Polls until `probe` succeeds; a board that is off is an error at once.
fn poll<T>(on: &mut Running, what: &str, probe: impl FnMut() -> Result<T>) -> Result<T> {
    let console = on.console.path().to_owned();
    until::poll(what, 2 * UP, &console, || on.check(), probe)
}

/// QEMU's board resets in the moment in which its watchdog is armed. So the tray's configuration, which is beside the release in both
/// slots and not part of it, says what that of a board without one says; in place, and as long as it was.
fn without_watchdog(card: &Path) -> Result<()> {
    let (said, instead) = (b"\"watchdog\":15", b"\"watchdog\":0 ");
    let file = fs::OpenOptions::new().read(true).write(true).open(card)?;
    let mut slots = vec![0; usize::try_from(SLOTS.end - SLOTS.start)?];
    file.read_exact_at(&mut slots, SLOTS.start)?;
    let mut found = 0;
    for at in 0..slots.len() - said.len() {
        if slots[at..].starts_with(said) {
            file.write_all_at(instead, SLOTS.start + at as u64)?;
            found += 1;
        }
    }
    ensure!(found == 2, "{found} places say what the watchdog may count");
    Ok(())
}
