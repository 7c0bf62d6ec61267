// SPDX-License-Identifier: Apache-2.0
//! Cards that fail, and what lies on a card that a tray has left: all without privileges, by QEMU's block layer and `debugfs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{Process, bound_to_us, output, path_with_sbin},
    until::until,
};

/// How a machine's card behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Card {
    /// As it should.
    #[default]
    Sound,
    /// Its switch is on "lock", or its controller has given up writing.
    WriteProtected,
    /// Reading these sectors (of 512 bytes, from the start of the card) fails with EIO: the first time only, or always.
    Unreadable {
        /// Which.
        sectors: Vec<u64>,
        /// Whether it works when it is tried again.
        once: bool,
    },
    /// At most so many bytes a second, in both directions.
    Slow(u64),
    /// Served by [`Remote`] at this socket, which a test can take away.
    Remote(PathBuf),
    /// Every write and flush is also written to this file; see [`WriteLog`].
    Logged(PathBuf),
}

impl Card {
    /// The values of QEMU's `-drive`, besides `if` and `id`, for the image `card`.
    ///
    /// # Errors
    /// When a file that QEMU needs for it cannot be written.
    pub(crate) fn drive(&self, card: &Path, folder: &Path) -> Result<String> {
        let file = card.display();
        Ok(match self {
            Self::Sound => format!("format=raw,discard=unmap,file={file}"),
            Self::WriteProtected => format!("format=raw,readonly=on,file={file}"),
            Self::Slow(bytes) => {
                format!("format=raw,discard=unmap,throttling.bps-total={bytes},file={file}")
            }
            Self::Remote(socket) => format!(
                "format=raw,file.driver=nbd,file.server.type=unix,file.server.path={}",
                socket.display()
            ),
            Self::Unreadable { sectors, once } => {
                let rules = folder.join("blkdebug.conf");
                let once = if *once { "on" } else { "off" };
                let text: String = sectors
                    .iter()
                    .map(|sector| {
                        format!(
                            "[inject-error]\nevent = \"none\"\niotype = \"read\"\nsector = \"{sector}\"\n\
                             errno = \"5\"\nonce = \"{once}\"\n\n"
                        )
                    })
                    .collect();
                fs::write(&rules, text).context("write blkdebug's rules")?;
                format!(
                    "format=raw,file.driver=blkdebug,file.config={},file.image.driver=file,\
                     file.image.filename={file}",
                    rules.display()
                )
            }
            Self::Logged(log) => {
                fs::write(log, b"").context("make the write log")?;
                format!(
                    "driver=blklogwrites,log-sector-size=512,file.driver=file,file.filename={file},\
                     log.driver=file,log.filename={}",
                    log.display()
                )
            }
        })
    }
}

/// A server of a card over NBD: taking it away is pulling the card.
#[derive(Debug)]
pub struct Remote {
    process: Process,
    socket: PathBuf,
}

impl Remote {
    /// Serves the image `card` at a socket beside it.
    ///
    /// # Errors
    /// When `qemu-nbd` is missing or does not start.
    pub fn serve(card: &Path) -> Result<Self> {
        // Short: sockets' names are.
        let folder = tempfile::Builder::new().prefix("racklet-nbd-").tempdir()?;
        let socket = folder.keep().join("s");
        let mut command = bound_to_us("qemu-nbd");
        command
            .args(["--format=raw", "--persistent", "--socket"])
            .arg(&socket)
            .arg(card);
        let mut process =
            Process::spawn("qemu-nbd", &mut command, &card.with_extension("nbd.log"))?;
        until("qemu-nbd listens", Duration::from_secs(20), || {
            process.check()?;
            Ok(socket.exists().then_some(()))
        })?;
        Ok(Self { process, socket })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Pulls the card.
    pub fn pull(mut self) {
        self.process.kill();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.process.kill();
        if let Some(folder) = self.socket.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// The state partition on the card of a machine that is off.
#[derive(Debug)]
pub struct StateOf {
    card: PathBuf,
    /// Where it begins, in bytes.
    pub start: u64,
}

impl StateOf {
    /// Finds it: the second partition of the GPT, as the image has it.
    ///
    /// # Errors
    /// When the card cannot be read or has none.
    pub fn find(card: &Path) -> Result<Self> {
        use std::os::unix::fs::FileExt as _;
        let mut entry = [0; 128];
        fs::File::open(card)?.read_exact_at(&mut entry, 2 * 512 + 128)?;
        let first = u64::from_le_bytes(entry[32..40].try_into()?);
        if first == 0 {
            bail!("{} has no second partition", card.display());
        }
        Ok(Self {
            card: card.into(),
            start: first * 512,
        })
    }

    /// A file that is the partition alone.
    #[must_use]
    pub fn whole(partition: &Path) -> Self {
        Self {
            card: partition.into(),
            start: 0,
        }
    }

    /// What `debugfs` says to a request; with `-w` in `flags` it may change the file system.
    ///
    /// # Errors
    /// When it is missing or fails.
    pub fn debugfs(&self, flags: &[&str], request: &str) -> Result<String> {
        output(
            Command::new("debugfs")
                .env("PATH", path_with_sbin())
                .args(flags)
                .args(["-R", request])
                .arg(format!("{}?offset={}", self.card.display(), self.start)),
        )
    }

    /// The sectors of the card (of 512 bytes) in which a small file lies.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn sectors(&self, path: &str) -> Result<Vec<u64>> {
        let blocks = self.debugfs(&[], &format!("blocks {path}"))?;
        let block: u64 = blocks
            .split_ascii_whitespace()
            .next()
            .with_context(|| format!("{path} is not on the card: {blocks}"))?
            .parse()?;
        Ok((0..8)
            .map(|n| (self.start + block * 4096) / 512 + n)
            .collect())
    }

    /// Changes three bytes in a file, as a card does that wears out.
    ///
    /// # Errors
    /// When there is no such file, or the card cannot be written.
    pub fn rot(&self, path: &str) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        let first = self.sectors(path)?[0] * 512 + 100;
        let card = fs::File::options()
            .read(true)
            .write(true)
            .open(&self.card)?;
        let mut bytes = [0; 3];
        card.read_exact_at(&mut bytes, first)?;
        card.write_all_at(&bytes.map(|byte| !byte), first)?;
        Ok(())
    }

    /// Overwrites the first superblock, which says what and how large the file system is. Its copies stay.
    ///
    /// # Errors
    /// When the card cannot be written.
    pub fn lose_superblock(&self) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        let card = fs::File::options().write(true).open(&self.card)?;
        card.write_all_at(&[0x5a; 1024], self.start + 1024)?;
        Ok(())
    }

    /// The file system as the next mount finds it, in a file of its own beside the card: its journal replayed. (Within a card,
    /// 1.47 of e2fsck and debugfs do not find the file system again after they have replayed the journal.)
    ///
    /// # Errors
    /// When `dd` or `e2fsck` fails, or more is wrong than a journal mends.
    pub fn recovered(&self) -> Result<Self> {
        let partition = self.card.with_extension("part");
        output(
            Command::new("dd")
                .args(["bs=1M", "conv=sparse", "status=none"])
                .arg(format!("if={}", self.card.display()))
                .arg(format!("of={}", partition.display()))
                .arg(format!("skip={}", self.start >> 20)),
        )?;
        let checked = Command::new("e2fsck")
            .env("PATH", path_with_sbin())
            .arg("-p")
            .arg(&partition)
            .output()
            .context("run e2fsck")?;
        let code = checked.status.code().unwrap_or(-1);
        if !matches!(code, 0 | 1) {
            bail!(
                "e2fsck -p ends with {code}: {}{}",
                String::from_utf8_lossy(&checked.stdout),
                String::from_utf8_lossy(&checked.stderr)
            );
        }
        Ok(Self::whole(&partition))
    }

    /// Writes where it belongs what only the journal of a card holds that lost its power.
    fn settle(&self) -> Result<()> {
        use std::{io::Read as _, os::unix::fs::FileExt as _};
        let recovered = self.recovered()?;
        let mut from = fs::File::open(&recovered.card)?;
        let card = fs::File::options()
            .read(true)
            .write(true)
            .open(&self.card)?;
        let mut place = self.start;
        let (mut new, mut old) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        loop {
            let count = from.read(&mut new)?;
            if count == 0 {
                break;
            }
            // Only what differs, so that a sparse card stays one.
            card.read_exact_at(&mut old[..count], place)?;
            if new[..count] != old[..count] {
                card.write_all_at(&new[..count], place)?;
            }
            place += count as u64;
        }
        fs::remove_file(&recovered.card)?;
        Ok(())
    }

    /// Fills it to the last block but `left`.
    ///
    /// # Errors
    /// When `e2fsck` or `debugfs` fails.
    pub fn fill(&self, left: u64) -> Result<()> {
        // Else the next mount writes the journal's older blocks over what debugfs writes, and finds wrong checksums.
        self.settle()?;
        let stats = self.debugfs(&[], "show_super_stats -h")?;
        let free = stats
            .lines()
            .find_map(|line| line.strip_prefix("Free blocks:"))
            .context("how much is free")?;
        let blocks: u64 = free.trim().parse()?;
        let last = blocks.saturating_sub(left + 1);
        // An empty file first, from a file that is there and empty.
        self.debugfs(&["-w"], "write /dev/null filler")?;
        self.debugfs(&["-w"], &format!("fallocate filler 0 {last}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: u64 = 1 << 20;

    /// A card with an empty file system at [`OFFSET`] whose journal still holds what its block bitmap was.
    fn with_a_journal(folder: &Path) -> Result<PathBuf> {
        let partition = folder.join("partition");
        let of_it = |command: &str, arguments: &[&str]| {
            output(
                Command::new(command)
                    .env("PATH", path_with_sbin())
                    .args(arguments)
                    .arg(&partition),
            )
        };
        fs::File::create(&partition)?.set_len(32 << 20)?;
        of_it("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096"])?;
        let groups = of_it("debugfs", &["-R", "show_super_stats"])?;
        let bitmap: usize = groups
            .split_once("block bitmap at ")
            .and_then(|(_, rest)| rest.split(',').next())
            .context("where the block bitmap is")?
            .trim()
            .parse()?;
        let old = folder.join("bitmap");
        let whole = fs::read(&partition)?;
        fs::write(&old, &whole[bitmap * 4096..][..4096])?;
        let requests = folder.join("requests");
        fs::write(
            &requests,
            format!("jo\njw -b {bitmap} {}\njc\n", old.display()),
        )?;
        of_it("debugfs", &["-w", "-f", &requests.display().to_string()])?;

        let card = folder.join("card");
        let mut bytes = vec![0; usize::try_from(OFFSET)?];
        bytes.extend(fs::read(&partition)?);
        fs::write(&card, bytes)?;
        Ok(card)
    }

    #[test]
    fn a_card_is_filled_after_its_journal_so_that_the_next_mount_finds_no_fault() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let state = StateOf {
            card: with_a_journal(folder.path())?,
            start: OFFSET,
        };
        assert!(
            state
                .debugfs(&[], "show_super_stats -h")?
                .contains("needs_recovery")
        );
        state.fill(2)?;

        let mounted = state.recovered()?;
        output(
            Command::new("e2fsck")
                .env("PATH", path_with_sbin())
                .args(["-f", "-n"])
                .arg(&mounted.card),
        )?;
        let free = mounted.debugfs(&[], "show_super_stats -h")?;
        let free = free
            .lines()
            .find_map(|line| line.strip_prefix("Free blocks:"));
        assert!(free.is_some_and(|free| free.trim().parse::<u64>().is_ok_and(|free| free <= 3)));
        Ok(())
    }
}
