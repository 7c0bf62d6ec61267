// SPDX-License-Identifier: Apache-2.0
//! Long steps: on a terminal one line that says what runs and how long all of it will still take, now and then a line elsewhere.
//! What a step says goes to a log of its own and is shown only when the step fails.
//!
//! The estimate of a step is how long it took last time on this machine, or else what its author guessed, times how wrong such
//! guesses were so far in this run. Steps that run at once share the machine: each is thought to get the same part of it, and
//! what is remembered is a step's part, so that it does not matter beside what else it ran.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{IsTerminal as _, Write as _, stderr},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    paths,
    process::{bound_to_us, describe, output, tail},
};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// How often a program that runs is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Says something above the line that changes.
pub(crate) fn say(text: &str) {
    if stderr().is_terminal() {
        clear();
    }
    eprintln!("{text}");
}

/// A step that runs `command`; `key` names its log and its record of durations.
pub(crate) fn run(title: &str, key: &str, guess: u64, command: &mut Command) -> Result<()> {
    let log = paths::logs()?.join(format!("{key}.log"));
    step(title, key, guess, || {
        let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = bound_to_us(command)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start: {}", describe(command)))?;
        let status = end_of(child)?;
        if !status.success() {
            bail!("{}: {status}\n{}", describe(command), tail(&log, 30));
        }
        Ok(())
    })
}

/// Waits for a program; ends it when [`stop`] was called.
fn end_of(mut child: Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if with(|work| work.stopped) {
            // A compiler driver that is asked to end takes its compilers with it, which one that is killed does not.
            let id = child.id().to_string();
            output(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id]))?;
            child.wait()?;
            bail!("ended, because something else failed");
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A step that is `work`, expected to take `guess` seconds the first time.
pub(crate) fn step<T>(
    title: &str,
    key: &str,
    guess: u64,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let part = Part::new(key, guess);
    let begun = Instant::now();
    let id = with(|work| work.begin(title, part))?;
    let (done, wait) = channel::<()>();
    let result = thread::scope(|scope| {
        scope.spawn(move || show(id, &wait));
        let result = work();
        drop(done);
        result
    });
    let ok = result.is_ok();
    let own = with(|work| work.end(id, ok));
    let took = human(begun.elapsed().as_secs());
    if ok {
        say(&format!("  {title}: done in {took}"));
        remember(key, own);
    } else {
        say(&format!("  {title}: FAILED after {took}"));
    }
    result.with_context(|| title.to_owned())
}

/// Says what will come, so that there is an estimate of the whole from the beginning. What has been planned before is forgotten.
pub(crate) fn plan(parts: Vec<Part>) {
    with(|work| {
        work.planned = parts;
        let left = work.left();
        if left >= 30 {
            say(&format!("  about {} in all, at a guess", human(left)));
        }
    });
}

/// Ends the programs of all steps that run, and lets none begin.
pub(crate) fn stop() {
    with(|work| work.stopped = true);
}

/// Lets steps begin again.
pub(crate) fn go_on() {
    with(|work| work.stopped = false);
}

/// Something to do, by the key of its step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    key: String,
    guess: u64,
    last_time: Option<u64>,
}

impl Part {
    pub(crate) fn new(key: &str, guess: u64) -> Self {
        Self {
            key: key.to_owned(),
            guess,
            last_time: durations().get(key).copied(),
        }
    }

    /// Seconds that it may take.
    pub(crate) fn expected(&self, pace: Pace) -> u64 {
        self.last_time
            .unwrap_or_else(|| pace.expect(self.guess))
            .max(1)
    }
}

/// How this machine, as busy as it is, compares to the authors' guesses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    guessed: u64,
    took: u64,
}

impl Pace {
    pub(crate) const fn new() -> Self {
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

/// What runs, what will, and how far it is.
#[derive(Debug)]
struct Work {
    pace: Pace,
    planned: Vec<Part>,
    running: Vec<Running>,
    /// Up to when `running` has been told of the time that passed.
    told: Option<Instant>,
    begun: u64,
    stopped: bool,
}

#[derive(Debug)]
struct Running {
    id: u64,
    title: String,
    part: Part,
    /// Seconds by the clock.
    passed: f64,
    /// Of these, its part of the machine.
    own: f64,
}

impl Work {
    const fn new() -> Self {
        Self {
            pace: Pace::new(),
            planned: Vec::new(),
            running: Vec::new(),
            told: None,
            begun: 0,
            stopped: false,
        }
    }

    fn begin(&mut self, title: &str, part: Part) -> Result<u64> {
        ensure!(
            !self.stopped,
            "{title}: not begun, because something else failed"
        );
        if let Some(at) = self.planned.iter().position(|other| other.key == part.key) {
            self.planned.remove(at);
        }
        self.begun += 1;
        self.running.push(Running {
            id: self.begun,
            title: title.to_owned(),
            part,
            passed: 0.0,
            own: 0.0,
        });
        Ok(self.begun)
    }

    /// Gives the seconds that it would have taken by itself.
    fn end(&mut self, id: u64, ok: bool) -> u64 {
        let Some(at) = self.running.iter().position(|running| running.id == id) else {
            return 0;
        };
        let ended = self.running.remove(at);
        let own = whole(ended.own);
        if ok {
            self.pace.learn(ended.part.guess, own);
        }
        own
    }

    #[allow(clippy::cast_precision_loss, reason = "a handful of steps")]
    fn pass(&mut self, seconds: f64) {
        let share = seconds / self.running.len().max(1) as f64;
        for running in &mut self.running {
            running.passed += seconds;
            running.own += share;
        }
    }

    /// What is known of the pace, a step that takes longer than guessed and is not over included.
    fn pace_now(&self) -> Pace {
        let mut pace = self.pace;
        for running in &self.running {
            if whole(running.own) > running.part.guess {
                pace.learn(running.part.guess, whole(running.own));
            }
        }
        pace
    }

    /// Seconds until everything is done.
    fn left(&self) -> u64 {
        let pace = self.pace_now();
        let planned: u64 = self.planned.iter().map(|part| part.expected(pace)).sum();
        let running = self.running.iter().map(|it| {
            let expected = it.part.expected(pace);
            expected.saturating_sub(whole(it.own))
        });
        planned + running.sum::<u64>()
    }

    /// What a person is told.
    fn line(&self) -> String {
        let mut steps: Vec<String> = self.running.iter().map(|it| self.told_of(it)).collect();
        if self.running.len() > 1 || !self.planned.is_empty() {
            steps.push(format!("about {} left in all", human(self.left())));
        }
        format!("  {}", steps.join(" | "))
    }

    fn told_of(&self, it: &Running) -> String {
        // One that is not over does not say how long itself will take.
        let expected = it.part.expected(self.pace);
        let at_once = self.running.len() as u64;
        let left = match expected.checked_sub(whole(it.own)) {
            Some(left) if left > 0 => format!("about {} left", human(left * at_once)),
            _ => format!("longer than the {} expected", human(expected)),
        };
        format!("{}: {} so far, {left}", it.title, human(whole(it.passed)))
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time that passed, in seconds"
)]
fn whole(seconds: f64) -> u64 {
    seconds.round() as u64
}

/// This run's work, told of the time that has passed.
fn with<T>(of: impl FnOnce(&mut Work) -> T) -> T {
    static WORK: Mutex<Work> = Mutex::new(Work::new());
    let mut work = WORK.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if let Some(told) = work.told.replace(now) {
        work.pass((now - told).as_secs_f64());
    }
    of(&mut work)
}

/// Shows how far everything is, while the step `id` is the first of those that run.
fn show(id: u64, wait: &Receiver<()>) {
    let terminal = stderr().is_terminal();
    let is_first = |work: &Work| work.running.first().is_some_and(|first| first.id == id);
    if !terminal {
        let takes = with(|work| {
            let it = work.running.iter().find(|running| running.id == id)?;
            Some((it.title.clone(), it.part.expected(work.pace_now())))
        });
        if let Some((title, expected)) = takes.filter(|(_, expected)| *expected >= 5) {
            say(&format!("  {title}: takes about {}", human(expected)));
        }
    }
    let every = match terminal {
        true => Duration::from_millis(200),
        false => LINE_EVERY,
    };
    while wait.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        match with(|work| is_first(work).then(|| work.line())) {
            // Without wrapping (DECAWM): what is too long for the terminal is cut, and one line is all there is to clear.
            Some(line) if terminal => {
                let _ = write!(stderr(), "\r\x1b[K\x1b[?7l{line}\x1b[?7h");
            }
            Some(line) => say(&line),
            None => {}
        }
    }
}

fn clear() {
    // Best effort: only looks are lost.
    let _ = write!(stderr(), "\r\x1b[K");
}

/// A time as people say it.
pub(crate) fn human(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

fn durations() -> BTreeMap<String, u64> {
    let read = || {
        let text = fs::read(paths::cache().ok()?.join("durations.json")).ok()?;
        let all: serde_json::Map<_, _> = serde_json::from_slice(&text).ok()?;
        let number = |(key, value): (String, serde_json::Value)| Some((key, value.as_u64()?));
        Some(all.into_iter().filter_map(number).collect())
    };
    // Only estimates: without them the guesses do.
    read().unwrap_or_default()
}

fn remember(key: &str, seconds: u64) {
    // One after the other: what is read is written again whole.
    static FILE: Mutex<()> = Mutex::new(());
    let _one = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = durations();
    all.insert(key.to_owned(), seconds);
    if let (Ok(cache), Ok(text)) = (paths::cache(), serde_json::to_vec_pretty(&all)) {
        let _ = fs::write(cache.join("durations.json"), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(key: &str, guess: u64) -> Part {
        Part {
            key: key.to_owned(),
            guess,
            last_time: None,
        }
    }

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
        let mut work = Work::new();
        work.begin("bread", part("bread", 65)).unwrap();
        work.pass(5.0);
        assert_eq!(work.line(), "  bread: 5 s so far, about 60 s left");
        work.pass(60.0);
        assert_eq!(
            work.line(),
            "  bread: 65 s so far, longer than the 65 s expected"
        );
    }

    #[test]
    fn steps_that_run_at_once_share_the_machine() {
        let mut work = Work::new();
        work.planned = vec![part("soup", 40), part("bread", 100), part("salad", 10)];
        assert_eq!(work.left(), 150);
        let bread = work.begin("bread", part("bread", 100)).unwrap();
        assert_eq!(work.left(), 150);
        work.pass(20.0);
        let soup = work.begin("soup", part("soup", 40)).unwrap();
        // 80 of bread and 40 of soup, at half the speed each; then salad.
        work.pass(60.0);
        assert_eq!(work.left(), 70);
        assert_eq!(
            work.line(),
            "  bread: 80 s so far, about 100 s left | soup: 60 s so far, about 20 s left | about 70 s left in all"
                .replace("100 s", "1 min 40 s")
        );
        work.pass(20.0);
        assert_eq!(work.end(soup, true), 40);
        work.pass(40.0);
        assert_eq!(work.end(bread, true), 100);
        assert_eq!(work.left(), 10);
    }

    #[test]
    fn a_step_that_takes_longer_corrects_the_whole_before_it_is_over() {
        let mut work = Work::new();
        work.planned = vec![part("second", 100)];
        work.begin("first", part("first", 100)).unwrap();
        assert_eq!(work.left(), 200);
        work.pass(100.0);
        assert_eq!(work.left(), 100);
        // Twice as long as guessed, so far: the second will be no faster.
        work.pass(100.0);
        assert_eq!(work.left(), 200);
    }

    #[test]
    fn nothing_begins_after_a_stop() {
        let mut work = Work::new();
        work.stopped = true;
        assert!(work.begin("bread", part("bread", 1)).is_err());
        assert!(work.running.is_empty());
    }
}
