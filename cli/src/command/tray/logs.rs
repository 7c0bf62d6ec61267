// SPDX-License-Identifier: Apache-2.0
//! `racklet logs`: what a workload has said, and what it says.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use racklet_api::hypervisor::access::MAX_PASS;
use racklet_api::hypervisor::{LogLine, LogPage, MAX_FOLLOW, START};
use racklet_tell::error::chain;

use super::session::{Access, Session, Target};
use crate::answer::Log;
use crate::output::{Output, Usage};
use crate::remote::RemoteError;
use crate::time;

/// A command that ends by itself is done long before.
const LIFETIME: Duration = Duration::from_secs(600);
/// The longest wait before a tray that went away is looked for again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show the log of a workload, each line with its time and where it came from
#[derive(Args)]
pub(crate) struct Logs {
    /// The workload
    workload: String,
    /// Show the guest's console instead of the command's output
    #[arg(long)]
    console: bool,
    /// Go on with new lines until Ctrl-C, also when the tray is away for a while
    #[arg(long, short)]
    follow: bool,
    /// Only lines from this time on by the guest's clock: `10m`, `2h`, `2026-03-01`, `2026-03-01 17:00`, `17:00`
    #[arg(long, value_name = "TIME", value_parser = time::since, conflicts_with = "console")]
    since: Option<Timestamp>,
    /// Of the lines that are there, only the last so many
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    #[command(flatten)]
    access: Access,
}

impl Logs {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        if self.follow && output.is_json() {
            return Err(Usage(
                "--follow has no end, and --json is one value: leave one of them out".into(),
            )
            .into());
        }
        let lifetime = match self.follow {
            // Whoever follows for a day is asked twice.
            true => Duration::from_secs(MAX_PASS),
            false => LIFETIME,
        };
        let session = self.access.open(lifetime)?;
        let tray = self.tray(&session)?;
        let target = session.target(&tray)?;
        let mut reader = Reader::new(&session, &target, &self);
        // What is there first, as far as it is wanted.
        let mut lines: VecDeque<LogLine> = VecDeque::new();
        let mut lost = false;
        loop {
            let page = reader.read(Duration::ZERO)?;
            lost |= page.lost;
            if page.lines.is_empty() {
                break;
            }
            lines.extend(page.lines.into_iter().filter(|line| self.wants(line)));
            if let Some(tail) = self.tail {
                lines.drain(..lines.len().saturating_sub(tail));
            }
            if self.tail.is_none() && !output.is_json() {
                lines.drain(..).for_each(|line| output.text(&shown(&line)));
            }
            if output.is_closed() {
                return Ok(());
            }
        }
        if !self.follow {
            for line in &lines {
                output.text(&shown(line));
            }
            output.value(&Log {
                workload: self.workload,
                tray,
                lines: lines.into(),
                lost,
            });
            return Ok(());
        }
        lines.drain(..).for_each(|line| output.text(&shown(&line)));
        while !output.is_closed() {
            let page = reader.follow(output)?;
            if page.lost {
                output.note(
                    "(some lines are gone: the log is bounded, and ends when its tray restarts)",
                );
            }
            for line in page.lines.iter().filter(|line| self.wants(line)) {
                output.text(&shown(line));
            }
        }
        Ok(())
    }

    /// The tray that runs the workload.
    fn tray(&self, session: &Session) -> anyhow::Result<String> {
        let workloads = &session.state.workloads;
        let found = workloads
            .iter()
            .find(|(name, _)| name.as_str() == self.workload);
        let Some((_, workload)) = found else {
            let known: Vec<&str> = workloads.keys().map(|name| name.as_str()).collect();
            bail!(
                "the rack has no workload {}; it has: {}{}",
                self.workload,
                known.join(", "),
                session.left_out()
            );
        };
        Ok(workload.tray.to_string())
    }

    /// A line without a time goes with those around it.
    fn wants(&self, line: &LogLine) -> bool {
        match (self.since, line.time_ms) {
            (Some(since), Some(time)) => {
                i64::try_from(time).is_ok_and(|time| time >= since.as_millisecond())
            }
            _ => true,
        }
    }
}

/// `2026-03-01 17:00:00 stderr  text`.
fn shown(line: &LogLine) -> String {
    let time = line.time_ms.map(|ms| time::local_millis(ms) + " ");
    format!(
        "{}{:<7} {}",
        time.unwrap_or_default(),
        line.stream,
        line.line
    )
}

/// Reads page after page.
struct Reader<'s> {
    session: &'s Session,
    target: &'s Target,
    path: String,
    from: Option<String>,
}

impl<'s> Reader<'s> {
    fn new(session: &'s Session, target: &'s Target, logs: &Logs) -> Self {
        let log = if logs.console { "console" } else { "workload" };
        // Without a wish one begins near the end.
        let all = logs.since.is_some() || logs.tail.is_some();
        Self {
            session,
            target,
            path: format!("/v1/workloads/{}/logs?log={log}", logs.workload),
            from: all.then(|| START.to_owned()),
        }
    }

    fn read(&mut self, follow: Duration) -> Result<LogPage, RemoteError> {
        let mut path = self.path.clone();
        if let Some(from) = &self.from {
            path.push_str(&format!("&from={from}"));
        }
        if !follow.is_zero() {
            path.push_str(&format!("&follow={}", follow.as_secs()));
        }
        let tray = self.session.tray(self.target);
        let answered = tray.ask_waiting::<LogPage>("GET", &path, follow)?;
        if self.from.is_none() {
            self.session.remember(tray.name, answered.at);
        }
        let page = answered.value;
        self.from = Some(page.next.clone());
        Ok(page)
    }

    /// The next lines, from where the last ones ended, however often the tray goes away in between.
    fn follow(&mut self, output: Output) -> Result<LogPage, RemoteError> {
        let mut wait = Duration::from_millis(500);
        let mut away = false;
        loop {
            match self.read(Duration::from_secs(MAX_FOLLOW)) {
                Ok(page) => {
                    if away {
                        output.note(&format!("({} answers again)", self.target.name));
                    }
                    return Ok(page);
                }
                Err(error) if error.may_pass() && !output.is_closed() => {
                    if !away {
                        output.note(&format!("({}; trying again)", chain(&error)));
                    }
                    away = true;
                    thread::sleep(wait);
                    wait = (wait * 2).min(PATIENCE);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_its_time_and_stream_when_it_has_one() {
        let line = |time_ms, stream: &str| LogLine {
            time_ms,
            stream: stream.into(),
            line: "hello".into(),
        };
        let said = shown(&line(Some(1_790_000_000_123), "stderr"));
        // In the reader's own time zone, whichever that is.
        assert!(said.starts_with("2026-09-2"), "{said}");
        assert!(said.ends_with(".123 stderr  hello"), "{said}");
        assert_eq!(shown(&line(None, "console")), "console hello");
    }
}
