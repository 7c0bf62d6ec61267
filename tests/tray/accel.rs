// SPDX-License-Identifier: Apache-2.0
//! Whether trays may run on this machine's KVM. A `/dev/kvm` is no proof: some cannot run Linux, and a tray needs KVM inside
//! as well. So a real kernel is started, and has to reach the point where it looks for its first program.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use racklet_tests::{
    artifacts::Artifacts,
    board::{board, emulator},
    console::Console,
    process::{Process, bound_to_us},
    qemu::Accelerator,
    until::until,
};
use racklet_trust::Architecture;

use crate::{logs, steps::say};

/// What a kernel without an initramfs ends with.
const SIGN_OF_LIFE: &str = "Kernel panic - not syncing: ";

/// Decides, and says why.
pub(crate) fn choose(artifacts: &Artifacts) -> Result<Accelerator> {
    if let Ok(told) = std::env::var("RACKLET_ACCEL") {
        say(&format!(
            "  processor of the trays: {told}, as RACKLET_ACCEL says"
        ));
        return Ok(Accelerator::chosen());
    }
    let reason = match why_not(artifacts)? {
        None => {
            say("  processor of the trays: this machine's own (KVM, nested)");
            return Ok(Accelerator::Kvm);
        }
        Some(reason) => reason,
    };
    say(&format!(
        "  processor of the trays: emulated, because {reason}"
    ));
    Ok(Accelerator::Tcg)
}

fn why_not(artifacts: &Artifacts) -> Result<Option<&'static str>> {
    let board = board();
    let emulator = emulator(&board);
    if board.architecture != Architecture::HERE {
        return Ok(Some("they have another processor than this machine"));
    }
    if fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Some("there is no /dev/kvm that we may open"));
    }
    let nested = ["kvm_amd", "kvm_intel"].iter().any(|module| {
        fs::read_to_string(
            Path::new("/sys/module")
                .join(module)
                .join("parameters/nested"),
        )
        .is_ok_and(|text| matches!(text.trim(), "1" | "Y"))
    });
    if !nested {
        return Ok(Some(
            "this machine's KVM does not nest, and a tray runs microVMs",
        ));
    }
    let console = board.consoles.first().context("a console")?;
    let log = logs()?.join("kvm-probe.console");
    // A console of an earlier run would answer for this one.
    if log.exists() {
        fs::remove_file(&log)?;
    }
    let mut process = Process::spawn(
        "QEMU",
        bound_to_us(&emulator.program)
            .args(&emulator.machine)
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-m", "512", "-no-reboot"])
            .args(Accelerator::Kvm.arguments(&board))
            .arg("-kernel")
            .arg(artifacts.kernel())
            .args(["-append", &format!("console={} panic=-1", console.device)])
            .arg("-serial")
            .arg(format!("file:{}", log.display())),
        &logs()?.join("kvm-probe.log"),
    )?;
    let mut console = Console::new(&log);
    let lives = until("a kernel starts under KVM", Duration::from_secs(30), || {
        if console.said(SIGN_OF_LIFE) {
            return Ok(Some(true));
        }
        Ok(process.ended()?.map(|_| console.said(SIGN_OF_LIFE)))
    });
    Ok((!lives.unwrap_or(false)).then_some("a kernel does not start under this machine's KVM"))
}
