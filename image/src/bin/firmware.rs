// SPDX-License-Identifier: Apache-2.0
//! What boards' own firmware loads from a card, besides what we compile: gathers it from Debian's `raspi-firmware` and from the device
//! trees of a kernel's build. `cargo xtask build` starts it. None of it is in Git.
//!
//! `firmware TO PACKAGE TREES BOARDS`: the folder that gets a folder for each board, the package as it was unpacked, the folder of
//! mainline's device trees (`<board>.dtb`), `boards/trays`. What we change of a tree is in the board's folder and applied here: a
//! release has one tree, and nothing is applied to it at boot.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use racklet_boards::Firmware;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [to, package, trees, boards] = &*arguments else {
        bail!("firmware TO PACKAGE TREES BOARDS");
    };
    for board in racklet_boards::all() {
        let Some(firmware) = &board.firmware else {
            continue;
        };
        let folder = to.join(&board.name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        for name in files(firmware) {
            copy(&in_package(package, name), &folder.join(name))?;
        }
        let mainline = trees.join(format!("{}.dtb", board.name));
        let changes = boards.join(&board.name).join("tree.dtso");
        let tree = changed(&mainline, &changes)?;
        write(&folder.join(firmware.tree_name()), &tree)?;
    }
    Ok(())
}

/// The package's files that a board needs, each once.
fn files(firmware: &Firmware) -> Vec<&str> {
    let rom = firmware.rom.as_deref();
    let mut names: Vec<&str> = firmware
        .files
        .values()
        .map(String::as_str)
        .chain(rom)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Debian 13 has them here, and their licence where it has those of all packages.
fn in_package(package: &Path, name: &str) -> PathBuf {
    match name {
        "copyright" => package.join("usr/share/doc/raspi-firmware").join(name),
        name => package.join("usr/lib/raspi-firmware").join(name),
    }
}

/// A tree with changes applied: the same inputs give the same bytes.
fn changed(tree: &Path, changes: &Path) -> Result<Vec<u8>> {
    let text = fs::read(changes).with_context(|| format!("read {}", changes.display()))?;
    // `-@` keeps the names by which the changes find their places; the overlay goes through a file, since fdtoverlay reads no pipe.
    let overlay = piped(
        Command::new("dtc").args(["-@", "-I", "dts", "-O", "dtb"]),
        &text,
    )
    .with_context(|| format!("compile {}", changes.display()))?;
    let folder = tempfile::tempdir()?;
    let compiled = folder.path().join("changes.dtbo");
    fs::write(&compiled, overlay)?;
    let result = folder.path().join("tree.dtb");
    let mut apply = Command::new("fdtoverlay");
    apply
        .arg("-i")
        .arg(tree)
        .arg("-o")
        .arg(&result)
        .arg(&compiled);
    piped(&mut apply, b"").with_context(|| format!("change {}", tree.display()))?;
    Ok(fs::read(result)?)
}

/// What a command says when it is told `input`.
fn piped(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .context("start it; install device-tree-compiler")?;
    child
        .stdin
        .take()
        .context("a pipe was asked for")?
        .write_all(input)?;
    let done = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}: {}", done.status, said.trim());
    // A warning would be about our own few lines.
    ensure!(said.trim().is_empty(), "{}", said.trim());
    Ok(done.stdout)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    write(to, &bytes)
}

/// Leaves alone what is there already, so that nothing is built again for it.
fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(to, bytes).with_context(|| format!("write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with the places that ours change: what mainline's are like is judged where one is booted.
    const TREE: &str = r#"/dts-v1/;
/memreserve/ 0x0 0x1000;
/ {
    #address-cells = <2>;
    #size-cells = <1>;
    aliases { };
    chosen { stdout-path = "serial1:115200n8"; };
    soc {
        #address-cells = <1>;
        #size-cells = <1>;
        gpio { uart0_gpio14: a { }; uart5_gpio12: b { }; };
        uart0: serial@7e201000 { reg = <0x7e201000 0x200>; bt: bluetooth { }; };
        uart5: serial@7e201a00 { reg = <0x7e201a00 0x200>; status = "disabled"; };
        uart1: serial@7e215040 { reg = <0x7e215040 0x40>; };
    };
};
"#;

    #[test]
    fn a_boards_changes_apply_to_its_tree_and_leave_the_spin_tables_page_reserved() {
        let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards/trays");
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("mainline.dtb");
        let compiled = piped(
            Command::new("dtc").args(["-@", "-q", "-O", "dtb"]),
            TREE.as_bytes(),
        )
        .unwrap();
        fs::write(&tree, compiled).unwrap();
        let mut count = 0;
        for board in racklet_boards::all() {
            let Some(firmware) = &board.firmware else {
                continue;
            };
            assert!(files(firmware).contains(&"copyright"));
            let result = changed(&tree, &boards.join(&board.name).join("tree.dtso")).unwrap();
            let text = piped(
                Command::new("dtc").args(["-q", "-I", "dtb", "-O", "dts"]),
                &result,
            )
            .unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(
                text.contains("/memreserve/\t0x0000000000000000 0x0000000000001000"),
                "{text}"
            );
            assert!(
                text.contains(r#"stdout-path = "serial0:115200n8""#),
                "{text}"
            );
            // Partition 2 and 3, as PM_RSTS has them.
            for line in [
                "mode-normal = <0x5a000000>",
                "mode-slot-a = <0x5a000004>",
                "mode-slot-b = <0x5a000005>",
            ] {
                assert!(text.contains(line), "{line}: {text}");
            }
            let (_, bluetooth) = text.split_once("bluetooth {").unwrap();
            assert!(
                bluetooth.trim_start().starts_with(r#"status = "disabled""#),
                "{text}"
            );
            assert_eq!(
                text.contains("serial5 ="),
                board.control_link.is_some(),
                "{text}"
            );
            count += 1;
        }
        assert!(count >= 2);
    }
}
