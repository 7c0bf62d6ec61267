// SPDX-License-Identifier: Apache-2.0
//! What services write: to the console, a line at a time, and to a file on the state partition that cannot grow without
//! bound.
//!
//! The file is written by a thread of its own, and lines that it has no time for are dropped: a card that hangs must not fill
//! the pipe, or the service would hang with it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use racklet_linux::clock;
use racklet_trust::date::Utc;

use crate::console::Topic;

/// A log file is put aside at this length; one older is kept.
const ROTATE_AT: u64 = 1 << 20;
/// Longer lines are cut: a service that writes no newline must not fill the memory.
const MAX_LINE: u64 = 4096;
/// Lines that wait for the card at most: up to 1 MiB.
const WAITING: usize = 256;

/// Copies lines until the service's end of the pipe is closed.
pub(crate) fn follow(topic: Topic, pipe: impl Read, folder: &Path) {
    let mut file = Writer::start(LogFile::new(folder, topic.0));
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if text.is_empty() {
            continue;
        }
        topic.say(&text);
        file.write(format!("{} {text}\n", Utc(clock::wall().as_secs())));
    }
}

/// The end that never waits.
struct Writer {
    /// None when there is no thread: the console has the lines, the file does not.
    lines: Option<SyncSender<String>>,
    dropped: u64,
}

impl Writer {
    fn start(mut file: LogFile) -> Self {
        let (lines, waiting): (_, Receiver<String>) = sync_channel(WAITING);
        let started = thread::Builder::new()
            .name("log-file".into())
            .stack_size(128 << 10)
            .spawn(move || {
                for line in waiting {
                    file.write(line.as_bytes());
                }
            });
        Self {
            lines: started.is_ok().then_some(lines),
            dropped: 0,
        }
    }

    fn write(&mut self, line: String) {
        let Some(lines) = &self.lines else { return };
        if self.dropped > 0 {
            let told = lines.try_send(format!("({} lines were dropped here)\n", self.dropped));
            if told.is_err() {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if let Err(TrySendError::Full(_)) = lines.try_send(line) {
            self.dropped += 1;
        }
    }
}

struct LogFile {
    path: PathBuf,
    open: Option<(File, u64)>,
}

impl LogFile {
    fn new(folder: &Path, name: &str) -> Self {
        Self {
            path: folder.join(format!("{name}.log")),
            open: None,
        }
    }

    /// A full disk costs log lines, never more.
    fn write(&mut self, line: &[u8]) {
        let done = self.file().and_then(|(file, length)| {
            file.write_all(line)?;
            *length += line.len() as u64;
            Ok(())
        });
        if done.is_err() {
            self.open = None;
        }
    }

    fn file(&mut self) -> io::Result<&mut (File, u64)> {
        if self
            .open
            .as_ref()
            .is_some_and(|(_, length)| *length >= ROTATE_AT)
        {
            self.open = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        match &mut self.open {
            Some(open) => Ok(open),
            empty => {
                if let Some(folder) = self.path.parent() {
                    fs::create_dir_all(folder)?;
                }
                let file = File::options().append(true).create(true).open(&self.path)?;
                let length = file.metadata()?.len();
                Ok(empty.insert((file, length)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_hangs_costs_lines_and_holds_up_nobody() {
        // Nobody takes lines out: the card hangs.
        let (lines, waiting) = sync_channel(WAITING);
        let mut writer = Writer {
            lines: Some(lines),
            dropped: 0,
        };
        for n in 0..WAITING + 10 {
            writer.write(format!("{n}\n"));
        }
        assert_eq!(writer.dropped, 10);
        // It comes back, and what is missing is said where it is missing.
        let first: Vec<String> = waiting.try_iter().collect();
        assert_eq!(first.len(), WAITING);
        writer.write("again\n".into());
        let rest: Vec<String> = waiting.try_iter().collect();
        assert_eq!(rest, ["(10 lines were dropped here)\n", "again\n"]);
    }

    #[test]
    fn a_service_that_writes_without_end_fills_two_files_at_most() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut log = LogFile::new(folder.path(), "netd");
        for _ in 0..40_000 {
            log.write(&[b'x'; 100]);
        }
        let total: u64 = fs::read_dir(folder.path())
            .expect("lists")
            .map(|entry| entry.and_then(|e| e.metadata()).map_or(0, |m| m.len()))
            .sum();
        assert!(
            (ROTATE_AT..=2 * ROTATE_AT + 200).contains(&total),
            "{total}"
        );
    }
}
