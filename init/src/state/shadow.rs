// SPDX-License-Identifier: Apache-2.0
//! What a card holds that takes no writes, seen through memory: folders are made anew, large files are links to the card's,
//! small ones are copies. Whoever replaces, adds or removes files changes memory only; nothing here writes to the card.
//!
//! Not an overlay file system, which the bootstrap's kernel does not have: this needs none, and a test needs no privilege.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::STATE;

/// Up to this many bytes a file is copied: records are written in place, and others are opened without following links.
const COPIED: u64 = 64 * 1024;
/// Folders deeper than this are not ours: the deepest file is `cache/artifacts/<digest>/signatures/<n>.sig`.
const DEEPEST: u32 = 8;
/// More files than this are not looked at: each takes about 1 KiB of memory. An image of 1 GiB has a thousand chunks.
const MOST: u32 = 200_000;

/// Makes `memory` show what `card` holds. What cannot be read is left out and counted.
pub(super) fn fill(card: &Path, memory: &Path) {
    let mut seen = Seen::default();
    walk(card, memory, 0, &mut seen);
    if seen.left_out > 0 {
        STATE.failed(
            format_args!(
                "{} files or folders of the card cannot be read",
                seen.left_out
            ),
            "go on without them",
        );
    }
}

#[derive(Default)]
struct Seen {
    files: u32,
    left_out: u32,
}

fn walk(card: &Path, memory: &Path, depth: u32, seen: &mut Seen) {
    let Ok(entries) = fs::read_dir(card) else {
        seen.left_out += 1;
        return;
    };
    for entry in entries {
        let shown = entry.and_then(|entry| show(&entry, memory, depth, seen));
        seen.left_out += u32::from(shown.is_err());
        seen.files += 1;
        if seen.files > MOST {
            return;
        }
    }
}

fn show(entry: &DirEntry, memory: &Path, depth: u32, seen: &mut Seen) -> io::Result<()> {
    let (from, to) = (entry.path(), memory.join(entry.file_name()));
    let kind = entry.file_type()?;
    if kind.is_dir() {
        // Logs are appended to, and nothing that runs reads old ones.
        if depth == 0 && entry.file_name() == "log" || depth >= DEEPEST {
            return Ok(());
        }
        fs::create_dir(&to)?;
        walk(&from, &to, depth + 1, seen);
        return Ok(());
    }
    if !kind.is_file() {
        return Ok(());
    }
    if entry.metadata()?.len() <= COPIED
        && let Ok(bytes) = fs::read(&from)
    {
        return fs::write(&to, bytes);
    }
    // Also what cannot be read: who wants it must learn that it was there.
    symlink(&from, &to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_fetch::disk::{self, Disk as _, Files};

    #[test]
    fn changes_are_in_memory_and_the_card_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (card, memory) = (folder.path().join("card"), folder.path().join("memory"));
        let large = vec![7; 100_000];
        fs::create_dir_all(card.join("cache/chunks/ab")).expect("creates");
        fs::create_dir_all(card.join("log")).expect("creates");
        fs::create_dir_all(&memory).expect("creates");
        for (name, bytes) in [
            ("floors.0", &b"floors"[..]),
            ("log/netd.log", b"old"),
            ("cache/chunks/ab/one", &large),
            ("cache/chunks/ab/two", &large),
            ("head", &large),
        ] {
            fs::write(card.join(name), bytes).expect("writes");
        }
        fill(&card, &memory);
        // Read through it, by what the cache uses.
        let chunk = memory.join("cache/chunks/ab/one");
        assert_eq!(Files.size(&chunk).expect("there"), 100_000);
        assert_eq!(Files.read(&chunk, 1 << 20).expect("reads"), large);
        assert!(!memory.join("log").exists());
        // Changed in every way that a state is.
        fs::write(memory.join("floors.0"), "raised").expect("in place");
        disk::replace(&Files, &memory.join("head"), b"newer").expect("replaces");
        Files.remove(&chunk).expect("removes");
        Files
            .remove_all(&memory.join("cache/chunks"))
            .expect("removes a folder");
        assert_eq!(fs::read(memory.join("head")).expect("reads"), b"newer");
        assert_eq!(fs::read(card.join("floors.0")).expect("reads"), b"floors");
        assert_eq!(fs::read(card.join("head")).expect("reads"), large);
        for name in ["one", "two"] {
            let path = card.join("cache/chunks/ab").join(name);
            assert_eq!(fs::read(path).expect("reads"), large, "{name}");
        }
    }

    #[test]
    fn a_card_with_no_end_of_folders_is_not_followed_for_ever() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (card, memory) = (folder.path().join("card"), folder.path().join("memory"));
        let deep = "d/".repeat(50);
        fs::create_dir_all(card.join(&deep)).expect("creates");
        symlink("..", card.join("up")).expect("links");
        fs::create_dir_all(&memory).expect("creates");
        fill(&card, &memory);
        assert!(memory.join("d/d/d").exists());
        assert!(!memory.join(&deep).exists() && !memory.join("up").exists());
    }
}
