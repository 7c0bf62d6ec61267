// SPDX-License-Identifier: Apache-2.0
//! A card's image, read with `sfdisk` and mtools.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::Volumes;
use crate::process::path_with_sbin;

/// An image, and where its FAT partitions begin.
#[derive(Debug, Clone)]
pub struct Image {
    path: PathBuf,
    /// By number: type and start in bytes.
    partitions: Vec<(u32, String, u64)>,
}

impl Image {
    /// Reads the partition table.
    ///
    /// # Errors
    /// When it is no MBR, or `sfdisk` cannot be run.
    pub fn open(path: &Path) -> Result<Self> {
        let done = Command::new("sfdisk")
            .env("PATH", path_with_sbin())
            .arg("--json")
            .arg(path)
            .output()
            .context("start sfdisk; install the package fdisk")?;
        ensure!(
            done.status.success(),
            "sfdisk: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        let table: serde_json::Value = serde_json::from_slice(&done.stdout)?;
        let table = &table["partitiontable"];
        ensure!(
            table["label"] == "dos",
            "{}: the firmware takes an MBR alone, and this is {}",
            path.display(),
            table["label"]
        );
        let mut partitions = Vec::new();
        for partition in table["partitions"].as_array().context("no partitions")? {
            let node = partition["node"].as_str().unwrap_or_default();
            let digits = node.len() - node.bytes().rev().take_while(u8::is_ascii_digit).count();
            partitions.push((
                node[digits..].parse()?,
                partition["type"].as_str().unwrap_or_default().to_owned(),
                partition["start"].as_u64().context("a start")? * 512,
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            partitions,
        })
    }
}

impl Volumes for Image {
    fn file(&self, number: u32, path: &str) -> Result<Option<Vec<u8>>> {
        let found = self.partitions.iter().find(|(other, ..)| *other == number);
        // FAT32 by sectors: the one type that all of its stages take (firmware, issues 1711, 1733, 2030).
        let Some((_, _, start)) = found.filter(|(_, kind, _)| kind == "c") else {
            return Ok(None);
        };
        let done = Command::new("mcopy")
            .env("LC_ALL", "C")
            .env("MTOOLS_SKIP_CHECK", "1")
            .arg("-i")
            .arg(format!("{}@@{start}", self.path.display()))
            .args([&format!("::{path}"), "-"])
            .output()
            .context("start mcopy; install the package mtools")?;
        let said = String::from_utf8_lossy(&done.stderr);
        match done.status.success() {
            true => Ok(Some(done.stdout)),
            false if said.contains("not found") => Ok(None),
            // A volume that is none, as of a slot that was never written.
            false if said.contains("init ::") => Ok(None),
            false => bail!("mcopy: {said}"),
        }
    }
}
