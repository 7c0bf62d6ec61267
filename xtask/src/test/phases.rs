// SPDX-License-Identifier: Apache-2.0
//! Where the time of a run goes: of each phase how long it took, and how long it kept processors busy. Two processors that are busy
//! all the time give a second number twice the first: what is missing to that is waiting, and can be had back without less work.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{paths, progress::say};

/// Of `/proc/<pid>/stat`: what Linux counts in for programs, on all processors that we build for (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// One phase that is over; seconds.
#[derive(Debug, PartialEq, Eq)]
struct Phase {
    name: &'static str,
    wall: u64,
    processors: u64,
}

#[derive(Debug)]
struct Open {
    name: &'static str,
    begun: Instant,
    ticks: u64,
}

/// The phases of a run so far.
#[derive(Debug, Default)]
pub(super) struct Phases {
    over: Vec<Phase>,
    open: Option<Open>,
}

impl Phases {
    /// The next phase begins, and the one before it is over.
    pub(super) fn begin(&mut self, name: &'static str) -> Result<()> {
        self.end()?;
        say(name);
        self.open = Some(Open {
            name,
            begun: Instant::now(),
            ticks: ticks_of_children()?,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            let ticks = ticks_of_children()?.saturating_sub(open.ticks);
            self.over.push(Phase {
                name: open.name,
                wall: open.begun.elapsed().as_secs(),
                processors: ticks / TICKS_PER_SECOND,
            });
        }
        Ok(())
    }

    /// A table for people, and `bench/test.json` in the target folder.
    pub(super) fn close(mut self) -> Result<()> {
        self.end()?;
        let minutes = |seconds: u64| format!("{}:{:02}", seconds / 60, seconds % 60);
        say("\n  took     processors");
        for phase in &self.over {
            say(&format!(
                "  {:>6}   {:>6}     {}",
                minutes(phase.wall),
                minutes(phase.processors),
                phase.name
            ));
        }
        let phases: Vec<Value> = self
            .over
            .iter()
            .map(|phase| {
                json!({"phase": phase.name, "seconds": phase.wall, "processor_seconds": phase.processors})
            })
            .collect();
        let path = paths::made(paths::target().join("bench"))?.join("test.json");
        fs::write(&path, format!("{:#}\n", json!({ "phases": phases })))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Processor time of all programs that we started and that have ended, with those that they started and waited for.
fn ticks_of_children() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    children_in(&stat).with_context(|| format!("no times of children in {stat}"))
}

/// `cutime` and `cstime`, fields 16 and 17 of proc_pid_stat(5). The second field is a name, which may hold anything: the last bracket ends it.
fn children_in(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(16 - 3);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::output;
    use std::process::Command;

    #[test]
    fn the_times_of_children_are_found_behind_a_name_with_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 8 0 0 11 12 130 17 20 0 1 0 5 6 7\n";
        assert_eq!(children_in(stat), Some(147));
        assert_eq!(children_in("7 (a) S 1 2"), None);
    }

    #[test]
    fn work_of_a_child_counts_and_waiting_does_not() {
        let before = ticks_of_children().unwrap();
        // Until the shell itself has been busy for 0.3 s, as it says: 30 ticks.
        let busy =
            "while set -- $(cut -d' ' -f14,15 /proc/$$/stat); [ $(($1 + $2)) -lt 30 ]; do :; done";
        output(Command::new("sh").args(["-c", busy])).unwrap();
        assert!(ticks_of_children().unwrap() >= before + 30);
    }

    #[test]
    fn a_phase_ends_where_the_next_begins() {
        let mut phases = Phases::default();
        phases.begin("one").unwrap();
        phases.begin("two").unwrap();
        phases.end().unwrap();
        let names: Vec<_> = phases.over.iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["one", "two"]);
    }
}
