// SPDX-License-Identifier: Apache-2.0
//! The files of a bootstrap that a board's own firmware loads, without a bootloader of ours: all of a release, whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use racklet_boards::{Board, Firmware};
use racklet_image::raspberry_pi;

use crate::data;
use crate::output::Output;

/// The board's firmware, when it is a board that has one. A release is for such a board alone.
pub(super) fn of(boards: &[Board]) -> anyhow::Result<Option<(&Board, &Firmware)>> {
    let Some((board, firmware)) = boards
        .iter()
        .find_map(|board| Some((board, board.firmware.as_ref()?)))
    else {
        return Ok(None);
    };
    if boards.len() > 1 {
        bail!(
            "a bootstrap for {} holds what its firmware loads, so it cannot be for other boards, too; build one for each",
            board.name
        );
    }
    Ok(Some((board, firmware)))
}

/// All files of the release, in order, from kernel and initramfs and from the folder that the user names or those that are installed.
pub(super) fn files(
    (board, firmware): (&Board, &Firmware),
    [kernel, initramfs]: [&Path; 2],
    folder: Option<&Path>,
    output: Output,
) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let part = |name: &str| {
        let named: Option<PathBuf> = folder.map(|folder| folder.join(name));
        let file = format!("firmware/{name}");
        let path = data::find(named.as_deref(), board, &file, "--firmware DIR", output)?;
        read(&path)
    };
    let mut files = vec![
        (
            "kernel".to_owned(),
            raspberry_pi::compressed(&read(kernel)?),
        ),
        (
            "initramfs".to_owned(),
            raspberry_pi::padded(read(initramfs)?),
        ),
        (
            raspberry_pi::CONFIG.to_owned(),
            raspberry_pi::config(firmware).into_bytes(),
        ),
        (
            raspberry_pi::ARGUMENTS.to_owned(),
            raspberry_pi::arguments(board).into_bytes(),
        ),
        (firmware.tree_name().to_owned(), part(firmware.tree_name())?),
    ];
    for (name, source) in &firmware.files {
        files.push((name.clone(), part(source)?));
    }
    Ok(files)
}
