// SPDX-License-Identifier: Apache-2.0
//! What commands that ask several trays print: one answer a tray, in the order of the trays.

use std::process::ExitCode;

use anyhow::bail;
use racklet_api::hypervisor::Rejection;
use racklet_tell::error::chain;
use serde::Serialize;

use crate::answer::NoAnswer;
use crate::output::Output;

/// Which commit is refused and why, each reason once: `abc: workloads/web.yaml:7:3: …`.
pub(super) fn refusal(rejected: &Rejection) -> String {
    let commit = rejected.commit.as_deref().unwrap_or("the newest commit");
    match rejected.problems.as_slice() {
        [] => format!("{commit}: {}", rejected.reason),
        [problem] => format!("{commit}: {problem}"),
        problems => problems.iter().fold(format!("{commit}:"), |text, problem| {
            format!("{text}\n              {problem}")
        }),
    }
}

/// Answers of several trays, said as they come.
pub(super) struct Report<A> {
    output: Output,
    values: Vec<Option<A>>,
    silent: Vec<String>,
    bad: bool,
}

impl<A: Serialize + From<NoAnswer>> Report<A> {
    pub(super) fn new(trays: usize, output: Output) -> Self {
        Self {
            output,
            values: (0..trays).map(|_| None).collect(),
            silent: Vec::new(),
            bad: false,
        }
    }

    pub(super) fn good(&mut self, place: usize, text: &str, value: A) {
        self.output.text(text);
        self.values[place] = Some(value);
    }

    pub(super) fn bad(&mut self, place: usize, text: &str, value: A) {
        self.good(place, text, value);
        self.bad = true;
    }

    pub(super) fn no_answer(&mut self, place: usize, name: &str, error: &anyhow::Error) {
        let reason = chain(error.as_ref());
        let text = format!("{name}\n  no answer: {reason}");
        let tray = name.to_owned();
        let error = reason;
        self.good(place, &text, NoAnswer { tray, error }.into());
        self.silent.push(name.to_owned());
    }

    /// The one JSON value, and how the command ends.
    pub(super) fn end(self) -> anyhow::Result<ExitCode> {
        self.output.value(&self.values);
        if !self.silent.is_empty() {
            bail!("no answer from {}", self.silent.join(", "));
        }
        Ok(if self.bad {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}
