// SPDX-License-Identifier: Apache-2.0
//! What the user sees: answers on standard output (text, or one JSON value with `--json`), progress and remarks on
//! standard error, errors with everything that led to them.

use racklet_api::error::causes;
use racklet_api::text::lines;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// How to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// The command's answer: `text` for people, `value` for programs.
    pub(crate) fn answer(self, text: &str, value: &impl Serialize) {
        let mut line = if self.json {
            serde_json::to_string(value).expect("answers are plain data")
        } else {
            // Trays and servers have their words in it.
            lines(text.trim_end())
        };
        line.push('\n');
        if line.len() > 1 {
            // A closed pipe (`racklet … | head`) is not worth a word.
            let _ = io::stdout().write_all(line.as_bytes());
        }
    }

    /// A remark that is not part of the answer.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stderr(), "{}", lines(text));
        }
    }

    /// Whether Git is to show its own progress.
    pub(crate) fn git_progress(self) -> &'static str {
        if self.quiet || self.json || !io::stderr().is_terminal() {
            "--quiet"
        } else {
            "--progress"
        }
    }

    /// A progress bar over `total` bytes; invisible when nobody watches.
    pub(crate) fn bytes(self, what: &str, total: u64) -> ProgressBar {
        let target = if self.quiet || self.json || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let style = ProgressStyle::with_template(
            "{msg:<28} [{bar:32}] {bytes:>10}/{total_bytes:<10} {eta:>4}",
        )
        .expect("a fixed template")
        .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style)
            .with_message(what.to_owned());
        bar.tick();
        bar
    }

    /// Says why the command failed.
    pub(crate) fn error(self, error: &(dyn Error + 'static)) {
        if self.json {
            let causes: Vec<String> = causes(error).collect();
            let value = serde_json::json!({ "error": causes.first(), "causes": causes.get(1..).unwrap_or_default() });
            let _ = writeln!(io::stdout(), "{value}");
            return;
        }
        let _ = writeln!(io::stderr(), "{}", describe(error));
    }
}

fn describe(error: &(dyn Error + 'static)) -> String {
    let bold = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut text = String::from(if bold {
        "\x1b[1;31merror\x1b[0m: "
    } else {
        "error: "
    });
    for (level, cause) in causes(error).enumerate() {
        if level > 0 {
            text.push_str("\n  because: ");
        }
        let _ = write!(text, "{}", lines(&cause).replace('\n', "\n    "));
    }
    text
}

/// `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `1 commit`, `3 commits`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
