// SPDX-License-Identifier: Apache-2.0
//! From a verified payload to the loaded next kernel: sealed memory, the handoff behind the initramfs, the command line.
//!
//! [`Verified`] bytes are copied into memfds, sealed, and those very memfds are given to `kexec_file_load`: no name, no
//! file system, nobody in between.

use std::io::{self, Write};

use racklet_api::handoff::{Card, Handoff};
use racklet_api::tray::TrayConfig;
use racklet_cpio::{Archive, CpioError};
use racklet_follow::Payload;
use racklet_linux::kexec::{self, KexecError};
use racklet_linux::sealed::{Sealed, Unsealed};
use racklet_trust::{Manifest, TrustRoot, Verified};

/// Why the payload was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("the payload has no {0}")]
    NoFile(&'static str),
    #[error("hold the payload in memory")]
    Memory(#[source] io::Error),
    #[error("make the handoff: {0}")]
    Handoff(CpioError),
    #[error("load the kernel")]
    Load(#[source] KexecError),
}

/// Loads a payload with its handoff. The verified bytes are given up on the way: memory is short.
pub(crate) fn load(payload: Payload, tray: &TrayConfig, handoff: &[u8]) -> Result<(), LoadError> {
    let Payload {
        manifest,
        mut files,
        ..
    } = payload;
    let mut file = |name: &'static str| {
        let at = files
            .iter()
            .position(|(found, _)| found == name)
            .ok_or(LoadError::NoFile(name))?;
        Ok(files.swap_remove(at).1)
    };
    let kernel = seal("kernel", file("kernel")?, &[])?;
    let initramfs = seal("initramfs", file("initramfs")?, handoff)?;
    kexec::load(&kernel, &initramfs, &command_line(tray, &manifest)).map_err(LoadError::Load)
}

/// Verified bytes, and behind them what we say ourselves.
fn seal(name: &str, bytes: Verified<Vec<u8>>, ours: &[u8]) -> Result<Sealed, LoadError> {
    let write = || {
        let mut memory = Unsealed::new(name)?;
        for part in joined(&bytes, ours) {
            memory.write_all(part)?;
        }
        memory.seal()
    };
    write().map_err(LoadError::Memory)
}

/// The payload's bytes, and ours behind them at a multiple of four. Linux unpacks one archive over the other, so the last one
/// counts: whatever a payload has at `/racklet`, the handoff is ours.
fn joined<'a>(theirs: &'a [u8], ours: &'a [u8]) -> [&'a [u8]; 3] {
    let padding = match ours {
        [] => 0,
        _ => theirs.len().next_multiple_of(4) - theirs.len(),
    };
    [theirs, &[0; 4][..padding], ours]
}

/// The board's arguments, then the payload's.
fn command_line(tray: &TrayConfig, manifest: &Manifest) -> String {
    let board = tray.arguments.iter().map(String::as_str);
    board
        .chain([manifest.arguments.as_str()])
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The archive that the next stage finds behind its initramfs.
pub(crate) fn handoff_archive(
    [newest, baked]: [&TrustRoot; 2],
    tray: &TrayConfig,
    handoff: &Handoff,
    card: &Card,
) -> Result<Vec<u8>, LoadError> {
    let line = |json: serde_json::Result<Vec<u8>>| {
        let mut json = json.expect("strings and numbers always serialise");
        json.push(b'\n');
        json
    };
    let (json, card) = (
        line(serde_json::to_vec(handoff)),
        line(serde_json::to_vec(&Card {
            v: 1,
            ..card.clone()
        })),
    );
    let mut archive = Archive::new();
    let mut fill = || {
        archive.directory("racklet", 0o700)?;
        archive.file("racklet/trust-root.json", 0o600, &newest.to_canonical())?;
        // Older systems do not look for it.
        archive.file("racklet/baked-root.json", 0o600, &baked.to_canonical())?;
        archive.file("racklet/tray.json", 0o600, &tray.to_json())?;
        archive.file("racklet/handoff.json", 0o600, &json)?;
        // A file of its own: a payload that does not know it reads the others all the same.
        archive.file("racklet/card.json", 0o600, &card)
    };
    fill().map_err(LoadError::Handoff)?;
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_trust::Architecture;
    use racklet_trust::manifest::Kind;

    #[test]
    fn the_handoff_is_behind_whatever_a_payload_says_of_itself() {
        let mut forged = Archive::new();
        forged
            .file("racklet/handoff.json", 0o600, b"forged")
            .expect("is small");
        let forged = forged.finish();
        for extra in 0..4 {
            let theirs = [&forged[..], &[0; 4][..extra]].concat();
            let whole = joined(&theirs, b"ours").concat();
            assert!(
                whole.starts_with(&theirs),
                "verified bytes stay as they are"
            );
            assert!(whole.ends_with(b"ours"));
            assert_eq!((whole.len() - 4) % 4, 0, "where Linux looks for an archive");
        }
        assert_eq!(joined(b"kernel", b"").concat(), b"kernel");
    }

    #[test]
    fn the_command_line_is_the_boards_and_then_the_payloads() {
        let tray = TrayConfig::parse(
            br#"{"v":1,"rack":"00112233445566778899aabbccddeeff","tray":"t","board":"b","built":1,
                "arguments":["console=ttyS0","panic=5"],"repository":{"url":"https://git.example/rack.git"}}"#,
        )
        .expect("parses");
        let mut manifest = Manifest::new(Kind::Payload, "stable", 1, Architecture::HERE);
        assert_eq!(command_line(&tray, &manifest), "console=ttyS0 panic=5");
        manifest.arguments = "mitigations=auto".into();
        assert_eq!(
            command_line(&tray, &manifest),
            "console=ttyS0 panic=5 mitigations=auto"
        );
    }
}
