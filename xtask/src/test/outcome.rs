// SPDX-License-Identifier: Apache-2.0
//! A program of tests, run: its output passed on or kept, and what its last line says.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead as _, BufReader},
    ops::AddAssign,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// How many tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl Counts {
    /// From the line with which the standard harness ends.
    pub(super) fn told(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("test result: ")?;
        let (_, rest) = rest.split_once(". ")?;
        let mut counts = Self::default();
        for part in rest.split("; ") {
            let (number, word) = part.split_once(' ')?;
            let place = match word {
                "passed" => &mut counts.passed,
                "failed" => &mut counts.failed,
                "ignored" => &mut counts.ignored,
                _ => continue,
            };
            *place = number.parse().ok()?;
        }
        Some(counts)
    }
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) counts: Counts,
    /// It ended well, and said that no test failed. One that was killed half-way has said neither.
    pub(super) good: bool,
}

/// Runs it to its end; each line of its standard output is given to `line`.
pub(super) fn of(command: &mut Command, mut line: impl FnMut(&str)) -> Result<Outcome> {
    if env::var_os("RUST_BACKTRACE").is_none() {
        command.env("RUST_BACKTRACE", "0");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    let out = child.stdout.take().context("the pipe that was just made")?;
    let mut counts = None;
    for read in BufReader::new(out).split(b'\n') {
        let read = read.context("read what a test says")?;
        let read = String::from_utf8_lossy(&read);
        counts = Counts::told(&read).or(counts);
        line(&read);
    }
    let status = child.wait()?;
    let good = status.success() && counts.is_some_and(|counts| counts.failed == 0);
    let mut counts = counts.unwrap_or_default();
    if !good {
        counts.failed = counts.failed.max(1);
    }
    Ok(Outcome { counts, good })
}

/// The same program, watched: every file that it, or a child of it, opens is written to `log`.
pub(super) fn traced(program: &Path, log: &Path) -> Command {
    let mut command = Command::new("strace");
    command
        .args([
            "-f",
            "--seccomp-bpf",
            "-qqq",
            "-y",
            "-z",
            "-e",
            "signal=none",
        ])
        .args(["-e", "trace=open,openat,openat2", "-o"])
        .arg(log)
        .arg("--")
        .arg(program);
    command
}

/// The files that were opened, from what [`traced`] wrote: `7 openat(AT_FDCWD</x>, "f", O_RDONLY) = 3</x/f>`.
pub(super) fn opened(log: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = std::fs::read(log).with_context(|| format!("read {}", log.display()))?;
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| {
            let (_, result) = line.rsplit_once(") = ")?;
            let (_, path) = result.split_once('<')?;
            Some(path.strip_suffix('>')?.into())
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(script: &str) -> Outcome {
        of(Command::new("sh").args(["-c", script]), |_| {}).unwrap()
    }

    const GOOD: &str = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s";

    #[test]
    fn the_last_line_of_the_harness_is_counted() {
        let counts = Counts {
            passed: 12,
            failed: 0,
            ignored: 1,
        };
        assert_eq!(Counts::told(GOOD), Some(counts));
        assert_eq!(
            said(&format!("echo '{GOOD}'")),
            Outcome { counts, good: true }
        );
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(Counts::told(failed).unwrap().failed, 2);
        assert_eq!(Counts::told("test result of something else"), None);
    }

    #[test]
    fn what_failed_was_interrupted_or_ended_without_a_word_is_not_good() {
        for script in [
            format!("echo '{GOOD}'; exit 101"),
            format!("echo '{GOOD}'; kill -TERM $$"),
            "kill -KILL $$".to_owned(),
            // As a harness that left with status 0 half-way through its tests.
            "echo 'test one ... ok'".to_owned(),
            format!("echo '{}'", GOOD.replace("0 failed", "1 failed")),
        ] {
            let outcome = said(&script);
            assert!(
                !outcome.good && outcome.counts.failed > 0,
                "{script}: {outcome:?}"
            );
        }
    }

    #[test]
    fn a_traced_program_tells_what_it_opened_also_by_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        std::fs::write(top.join("secret"), "").unwrap();
        let log = top.join("log");
        let script = format!(
            "cd '{}' && (cat ./secret; cat ./absent) 2>&1",
            top.display()
        );
        of(traced(Path::new("sh"), &log).args(["-c", &script]), |_| {}).unwrap();
        let opened = opened(&log).unwrap();
        assert!(opened.contains(&top.join("secret")), "{opened:?}");
        assert!(!opened.contains(&top.join("absent")), "{opened:?}");
    }
}
