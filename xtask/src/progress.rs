// SPDX-License-Identifier: Apache-2.0
//! Long steps: a bar with an estimate on a terminal, now and then a line elsewhere. What a step says goes to a log of its own
//! and is shown only when the step fails.
//!
//! The estimate is how long the same step took last time on this machine, or else what its author guessed, times how wrong such
//! guesses were so far in this run.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{IsTerminal as _, stderr},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use racklet_tests::process::{describe, tail};

use crate::paths;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Says something between the bars.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A step that runs `command`; `key` names its log and its record of durations.
pub(crate) fn run(title: &str, key: &str, guess: u64, command: &mut Command) -> Result<()> {
    let log = paths::logs()?.join(format!("{key}.log"));
    step(title, key, guess, || {
        let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let status = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()
            .with_context(|| format!("start: {}", describe(command)))?;
        if !status.success() {
            bail!("{}: {status}\n{}", describe(command), tail(&log, 30));
        }
        Ok(())
    })
}

/// A step that is `work`, expected to take `guess` seconds the first time.
pub(crate) fn step<T>(
    title: &str,
    key: &str,
    guess: u64,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let last_time = durations().get(key).copied();
    let expected = last_time.unwrap_or_else(|| pace(|pace| pace.expect(guess)));
    let expected = expected.max(1);
    let start = Instant::now();
    let (done, wait) = channel::<()>();
    let result = thread::scope(|scope| {
        scope.spawn(move || show(title, expected, start, &wait));
        let result = work();
        drop(done);
        result
    });
    let took = start.elapsed().as_secs();
    match &result {
        Ok(_) => {
            say(&format!("  {title}: done in {}", human(took)));
            remember(key, took);
            pace(|pace| pace.learn(guess, took));
        }
        Err(_) => say(&format!("  {title}: FAILED after {}", human(took))),
    }
    result.with_context(|| title.to_owned())
}

/// How this machine, as busy as it is, compares to the authors' guesses.
#[derive(Debug)]
struct Pace {
    guessed: u64,
    took: u64,
}

impl Pace {
    const fn new() -> Self {
        Self {
            guessed: 0,
            took: 0,
        }
    }

    /// A step was done. One that took less than half of the guess found most of its work done already, and one of a few
    /// seconds waits more than it works: neither says anything about the next.
    fn learn(&mut self, guess: u64, took: u64) {
        if took >= 10 && took >= guess / 2 {
            self.guessed += guess.max(1);
            self.took += took;
        }
    }

    /// How long a step will take for which somebody guessed `guess`.
    fn expect(&self, guess: u64) -> u64 {
        match self.guessed {
            0 => guess,
            guessed => guess.saturating_mul(self.took) / guessed,
        }
    }
}

/// This run's pace.
fn pace<T>(with: impl FnOnce(&mut Pace) -> T) -> T {
    static PACE: Mutex<Pace> = Mutex::new(Pace::new());
    with(&mut PACE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn show(title: &str, expected: u64, start: Instant, wait: &std::sync::mpsc::Receiver<()>) {
    if stderr().is_terminal() {
        let bar = ProgressBar::new(expected);
        if let Ok(style) = ProgressStyle::with_template("  {msg} [{bar:30}] {prefix}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(title.to_owned());
        while wait.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
            let elapsed = start.elapsed().as_secs();
            bar.set_position(elapsed.min(expected.saturating_sub(1)));
            bar.set_prefix(remaining(elapsed, expected));
        }
        bar.finish_and_clear();
    } else {
        if expected >= 5 {
            say(&format!("  {title}: takes about {}", human(expected)));
        }
        while wait.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
            let elapsed = start.elapsed().as_secs();
            say(&format!(
                "  {title}: {} so far, {}",
                human(elapsed),
                remaining(elapsed, expected)
            ));
        }
    }
}

fn remaining(elapsed: u64, expected: u64) -> String {
    match expected.checked_sub(elapsed) {
        Some(left) if left > 0 => format!("about {} left", human(left)),
        _ => format!("longer than the {} expected", human(expected)),
    }
}

fn human(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A line that is always the current one; without a terminal, a new line whenever it changes.
pub(crate) fn status_line() -> StatusLine {
    let bar = stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    });
    StatusLine {
        bar,
        last: std::cell::RefCell::default(),
    }
}

/// See [`status_line`].
pub(crate) struct StatusLine {
    bar: Option<ProgressBar>,
    last: std::cell::RefCell<String>,
}

impl StatusLine {
    pub(crate) fn show(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None if *self.last.borrow() != text => say(text),
            None => {}
        }
        self.last.replace(text.to_owned());
    }
}

fn durations() -> BTreeMap<String, u64> {
    let read = || {
        let text = fs::read(paths::cache().ok()?.join("durations.json")).ok()?;
        serde_json::from_slice(&text).ok()
    };
    // Only estimates: without them the guesses do.
    read().unwrap_or_default()
}

fn remember(key: &str, seconds: u64) {
    let mut all = durations();
    all.insert(key.to_owned(), seconds);
    if let (Ok(cache), Ok(text)) = (paths::cache(), serde_json::to_vec_pretty(&all)) {
        let _ = fs::write(cache.join("durations.json"), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_learn_within_a_run() {
        let mut pace = Pace::new();
        assert_eq!(pace.expect(520), 520);
        // Work that was done already, and steps too short to tell, teach nothing.
        pace.learn(150, 1);
        pace.learn(2, 9);
        assert_eq!(pace.expect(520), 520);
        // The first kernel on a slow machine: five times as long as guessed, and so will be the second.
        pace.learn(380, 1900);
        assert_eq!(pace.expect(520), 2600);
        // A fast one.
        let mut pace = Pace::new();
        pace.learn(380, 190);
        assert_eq!(pace.expect(520), 260);
    }

    #[test]
    fn an_estimate_that_was_wrong_is_admitted() {
        assert_eq!(remaining(5, 65), "about 60 s left");
        assert_eq!(remaining(300, 240), "longer than the 4 min 0 s expected");
    }
}
