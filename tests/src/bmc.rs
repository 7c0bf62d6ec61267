// SPDX-License-Identifier: Apache-2.0
//! A tray's BMC: our image on an emulated microcontroller, its serial line a socket, its network a port of this machine.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    artifacts::target,
    console::Console,
    process::{Process, bound_to_us},
    qemu::{free_port, qmp},
    until::until,
};

/// Bytes of its flash, of which the emulator has a file.
const FLASH: u64 = 16 << 20;
/// Where the first copy of the vault is in it (`firmware/core/src/flash.rs`).
const VAULT: u64 = 0x12_0000;
/// Where the image looks for random bytes (`firmware/bmc/src/board/mps2_an505/memory.x`).
const SEED: &str = "0x38011000";

/// One that is on; dropping it pulls the plug.
#[derive(Debug)]
pub struct Bmc {
    folder: PathBuf,
    process: Process,
    says: Console,
    port: u16,
}

impl Bmc {
    /// Switches it on, with this vault in its flash, or erased flash.
    ///
    /// # Errors
    /// When QEMU or the image is missing or does not start.
    pub fn start(folder: &Path, vault: Option<&Path>) -> Result<Self> {
        let image = target().join("racklet/controllers/bmc");
        fs::create_dir_all(folder)?;
        let [flash, seed, says] = ["flash.img", "seed", "says.log"].map(|name| folder.join(name));
        let mut file = fs::File::create(&flash)?;
        file.set_len(FLASH)?;
        if let Some(vault) = vault {
            file.seek(SeekFrom::Start(VAULT))?;
            file.write_all(&fs::read(vault)?)?;
        }
        let mut random = [0; 32];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
        fs::write(&seed, random)?;
        let port = free_port()?;
        let socket = |name: &str| format!("{},server=on,wait=off", folder.join(name).display());
        let mut command = bound_to_us("qemu-system-arm");
        command
            .args(["-M", "mps2-an505,memory-backend=flash", "-display", "none"])
            .args(["-monitor", "none", "-object"])
            .arg(format!(
                "memory-backend-file,id=flash,size={FLASH},mem-path={},share=on",
                flash.display()
            ))
            .arg("-kernel")
            .arg(&image)
            .arg("-device")
            .arg(format!(
                "loader,file={},addr={SEED},force-raw=on",
                seed.display()
            ))
            .arg("-serial")
            .arg(format!("file:{}", says.display()))
            .arg("-chardev")
            .arg(format!("socket,id=line,path={}", socket("line.sock")))
            .args(["-serial", "chardev:line", "-qmp"])
            .arg(format!("unix:{}", socket("qmp.sock")))
            .arg("-nic")
            .arg(format!(
                "user,model=lan9118,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:7440"
            ));
        let process = Process::spawn("the BMC's QEMU", &mut command, &folder.join("qemu.log"))
            .with_context(|| {
                format!("start {}: `cargo xtask firmware` makes it", image.display())
            })?;
        Ok(Self {
            folder: folder.into(),
            process,
            says: Console::new(&says),
            port,
        })
    }

    /// Where a tray's serial line goes.
    #[must_use]
    pub fn line(&self) -> PathBuf {
        self.folder.join("line.sock")
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until it has said this since it was last waited for.
    ///
    /// # Errors
    /// When it does not.
    pub fn says(&mut self, what: &str) -> Result<String> {
        self.says
            .wait_for(&mut self.process, what, Duration::from_secs(60))
    }

    /// Resets it, as its watchdog or its own software does: its memory stays.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn reset(&self) -> Result<()> {
        qmp::ask(&self.folder.join("qmp.sock"), "system_reset", json!({}))?;
        Ok(())
    }

    /// Waits until its line is there for a tray.
    ///
    /// # Errors
    /// When it ends before.
    pub fn has_line(&mut self) -> Result<()> {
        let line = self.line();
        until("the BMC has a serial line", Duration::from_secs(20), || {
            self.process.check()?;
            Ok(line.exists().then_some(()))
        })
    }
}
