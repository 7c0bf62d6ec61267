// SPDX-License-Identifier: Apache-2.0
//! Pages of a workload's logs, which its monitor writes as `<log>` and, for the older part, `<log>.1`.
//!
//! A cursor names a file by its inode and a place in it: it stays good when the file is renamed, when the hypervisor is
//! restarted, and it is noticed when what it points to is gone. Logs are in memory, and after a restart of the tray other files have
//! the same inodes: so a cursor also names the kernel's boot. What a log says is the guest's claim: control characters
//! are taken out, so that it cannot play with the reader's terminal.

use crate::files;
use racklet_api::guest::{OutputStream, WorkloadLine};
use racklet_api::hypervisor::{LogLine, LogPage, START};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// The most bytes of a log in one page.
const MAX_PAGE: u64 = 128 * 1024;
/// Without a cursor a page begins this far from the end.
const TAIL: u64 = 32 * 1024;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// The command's output.
    Workload,
    /// The guest's serial console.
    Console,
}

impl Log {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "workload" => Some(Self::Workload),
            "console" => Some(Self::Console),
            _ => None,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Workload => "workload.log",
            Self::Console => "console.log",
        }
    }
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    boot: u32,
    inode: u64,
    offset: u64,
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (boot, inode, offset) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            boot: u32::from_str_radix(boot, 16).ok()?,
            inode: inode.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{}-{}", self.boot, self.inode, self.offset)
    }
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// With the oldest line.
    Start,
    /// Where another page ended.
    Cursor(Cursor),
    /// Not far from the end.
    Tail,
}

impl From {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            START => Some(Self::Start),
            _ => Cursor::parse(text).map(Self::Cursor),
        }
    }
}

/// This boot of the kernel: the beginning of its random id.
pub(super) fn this_boot() -> u32 {
    static BOOT: OnceLock<u32> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        u32::from_str_radix(id.get(..8).unwrap_or_default(), 16).unwrap_or_default()
    })
}

struct Part {
    file: File,
    inode: u64,
    length: u64,
}

impl Part {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match files::open_regular(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let data = file.metadata()?;
        Ok(Some(Self {
            file,
            inode: data.ino(),
            length: data.len(),
        }))
    }
}

/// The page that begins at `from`, read during `boot`.
pub(super) fn page(folder: &Path, log: Log, from: From, boot: u32) -> io::Result<LogPage> {
    // The newer one first: if it is renamed in between, it shows up twice, and never is one missed.
    let newer = Part::open(&folder.join(log.file()))?;
    let older = Part::open(&folder.join(format!("{}.1", log.file())))?;
    let mut parts: Vec<Part> = Vec::new();
    for part in older.into_iter().chain(newer) {
        if parts.iter().all(|p| p.inode != part.inode) {
            parts.push(part);
        }
    }
    let (mut index, mut offset, lost, aligned) = begin(&parts, from, boot);
    let count = parts.len();
    let mut lines = Vec::new();
    let mut left = MAX_PAGE;
    let mut skip_first = !aligned;
    while let Some(part) = parts.get_mut(index) {
        let bytes = slice(part, offset, left)?;
        left -= bytes.len() as u64;
        let last_part = index + 1 == count;
        let (used, mut found) = split(&bytes, log, left == 0 || !last_part);
        if std::mem::take(&mut skip_first) && !found.is_empty() {
            found.remove(0);
        }
        lines.append(&mut found);
        offset += used as u64;
        if left == 0 || last_part || offset < part.length {
            break;
        }
        index += 1;
        offset = 0;
    }
    let (inode, offset) = parts.get(index).map_or((0, 0), |part| (part.inode, offset));
    let next = Cursor {
        boot,
        inode,
        offset,
    };
    Ok(LogPage {
        v: 1,
        lines,
        next: next.to_string(),
        lost,
    })
}

/// Part, offset, whether lines are lost, and whether the offset is the beginning of a line.
fn begin(parts: &[Part], from: From, boot: u32) -> (usize, u64, bool, bool) {
    match from {
        From::Start => (0, 0, false, true),
        From::Tail => match parts.last() {
            Some(part) if part.length > TAIL => (parts.len() - 1, part.length - TAIL, false, false),
            // The newest part is short: begin with the one before it, should there be one.
            Some(_) => (
                0,
                parts[0].length.saturating_sub(TAIL),
                false,
                parts[0].length <= TAIL,
            ),
            None => (0, 0, false, true),
        },
        // The log did not exist when the cursor was made.
        From::Cursor(cursor) if cursor.boot == boot && cursor.inode == 0 => (0, 0, false, true),
        From::Cursor(cursor) => match parts.iter().position(|part| {
            cursor.boot == boot && part.inode == cursor.inode && part.length >= cursor.offset
        }) {
            Some(index) => (index, cursor.offset, false, true),
            None => (0, 0, true, true),
        },
    }
}

fn slice(part: &mut Part, offset: u64, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = part.length.saturating_sub(offset).min(limit);
    part.file.seek(SeekFrom::Start(offset))?;
    part.file.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Complete lines, and how many bytes they took. A rest without a newline is left for later, unless `all`: then there is
/// no later.
// untrusted: workload_log
pub(super) fn split(bytes: &[u8], log: Log, all: bool) -> (usize, Vec<LogLine>) {
    let complete = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let used = if all && complete == 0 {
        bytes.len()
    } else {
        complete
    };
    let lines = bytes[..used]
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| log_line(line, log))
        .collect();
    (used, lines)
}

fn log_line(bytes: &[u8], log: Log) -> LogLine {
    if log == Log::Workload
        && let Ok(line) = serde_json::from_slice::<WorkloadLine>(bytes)
    {
        let stream = match line.stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
            OutputStream::Init => "init",
        };
        return LogLine {
            time_ms: Some(line.time_ms),
            stream: stream.to_owned(),
            line: printable(&line.line),
        };
    }
    LogLine {
        time_ms: None,
        stream: "console".to_owned(),
        line: printable(&String::from_utf8_lossy(bytes)),
    }
}

/// A guest's words, without its colours and whatever else is not text.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| *c == '\t' || !racklet_tell::text::is_hidden(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("scratch"))
        }

        fn append(&self, text: &str) {
            let path = self.0.path().join("console.log");
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .expect("open");
            io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        }

        fn rotate(&self) {
            let path = self.0.path().join("console.log");
            std::fs::rename(&path, self.0.path().join("console.log.1")).expect("renamed");
        }

        fn read(&self, from: Option<&str>) -> (Vec<String>, String, bool) {
            let from = from.map_or(From::Tail, |from| From::parse(from).expect("a place"));
            let page = page(self.0.path(), Log::Console, from, 0xb007).expect("a page");
            (
                page.lines.into_iter().map(|l| l.line).collect(),
                page.next,
                page.lost,
            )
        }
    }

    #[test]
    fn a_reader_sees_every_line_once_across_a_rotation() {
        let folder = Folder::new();
        let (lines, next, _) = folder.read(None);
        assert!(lines.is_empty());
        folder.append("one\ntw");
        let (lines, next, lost) = folder.read(Some(&next));
        assert_eq!((lines, lost), (vec!["one".to_owned()], false));
        folder.append("o\nthree\n");
        folder.rotate();
        folder.append("four\n");
        let (lines, next, lost) = folder.read(Some(&next));
        assert_eq!(
            (lines, lost),
            (vec!["two".to_owned(), "three".into(), "four".into()], false)
        );
        assert_eq!(folder.read(Some(&next)).0, Vec::<String>::new());
    }

    #[test]
    fn a_reader_who_is_too_late_is_told() {
        let folder = Folder::new();
        folder.append("one\n");
        let (_, next, _) = folder.read(None);
        // Kept open, so that its number is not used again.
        let _held = File::open(folder.0.path().join("console.log")).expect("open");
        folder.rotate();
        folder.append("two\n");
        folder.rotate();
        folder.append("three\n");
        let (lines, _, lost) = folder.read(Some(&next));
        assert_eq!(
            (lines, lost),
            (vec!["two".to_owned(), "three".into()], true)
        );
    }

    #[test]
    fn after_a_restart_of_the_tray_a_reader_gets_the_new_log_whole_and_is_told() {
        let folder = Folder::new();
        folder.append("after the restart\n");
        let (_, next, _) = folder.read(None);
        let (boot, rest) = next.split_once('-').expect("three numbers");
        assert_eq!(boot, "0000b007");
        // The same inode, and not even a place behind the end.
        let before = format!("0000b006-{rest}");
        let (lines, _, lost) = folder.read(Some(&before));
        assert_eq!((lines, lost), (vec!["after the restart".to_owned()], true));
    }

    #[test]
    fn a_page_is_bounded_and_the_next_goes_on() {
        let folder = Folder::new();
        let line = "x".repeat(999);
        for _ in 0..300 {
            folder.append(&format!("{line}\n"));
        }
        let (tail, _, _) = folder.read(None);
        assert!(
            tail.len() < 40 && tail.iter().all(|l| l.len() == 999),
            "whole lines only"
        );
        let mut from = START.to_owned();
        let mut count = 0;
        loop {
            let (lines, next, lost) = folder.read(Some(&from));
            assert!(!lost && lines.len() <= 132);
            if lines.is_empty() {
                break;
            }
            count += lines.len();
            from = next;
        }
        assert_eq!(count, 300);
    }

    #[test]
    fn an_endless_line_does_not_block_the_reader() {
        let folder = Folder::new();
        folder.append(&"y".repeat(300_000));
        let (lines, next, _) = folder.read(Some(START));
        assert_eq!(lines.len(), 1);
        assert!(next.ends_with("-131072"), "{next}");
    }

    #[test]
    fn guests_cannot_send_escape_sequences() {
        let folder = Folder::new();
        folder.append("\u{1b}[2Jhello\u{7}\tworld\r\n");
        assert_eq!(folder.read(None).0, ["[2Jhello\tworld"]);
    }

    #[test]
    fn workload_lines_keep_stream_and_time() {
        let dir = tempfile::tempdir().expect("scratch");
        let json = r#"{"time_ms":5,"stream":"stderr","line":"oops"}"#;
        std::fs::write(dir.path().join("workload.log"), format!("{json}\n")).expect("written");
        let page = page(dir.path(), Log::Workload, From::Tail, 0).expect("a page");
        let expected = LogLine {
            time_ms: Some(5),
            stream: "stderr".into(),
            line: "oops".into(),
        };
        assert_eq!(page.lines, [expected]);
    }
}
