// SPDX-License-Identifier: Apache-2.0
//! What the user sees: answers on standard output (text, or one JSON value with `--json`), progress and remarks on
//! standard error, errors with everything that led to them.
//!
//! With `--json` the first value is the answer and there is never a second: an error that comes after it goes to standard error. What
//! could not be written is remembered, and the program does not end well: a full disk must not look like success.

use racklet_tell::error::causes;
use racklet_tell::text::lines;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::answer::Failed;

/// Whether the JSON value was written.
static ANSWERED: AtomicBool = AtomicBool::new(false);
/// Whether whoever reads standard output has had enough (`racklet … | head`).
static CLOSED: AtomicBool = AtomicBool::new(false);
/// The first failure to write, other than that.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// The command line asks for something that cannot be had: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

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

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// The command's answer: `text` for people, `value` for programs.
    pub(crate) fn answer(self, text: &str, value: &impl Serialize) {
        self.text(text);
        self.value(value);
    }

    /// Part of the answer for people, shown at once.
    pub(crate) fn text(self, text: &str) {
        let text = text.trim_end();
        if !self.json && !text.is_empty() {
            // Trays and servers have their words in it.
            self.print(&format!("{}\n", lines(text)));
        }
    }

    /// The whole answer for programs.
    pub(crate) fn value(self, value: &impl Serialize) {
        if self.json && !ANSWERED.swap(true, Ordering::SeqCst) {
            let value = serde_json::to_string(value).expect("answers are plain data");
            self.print(&format!("{value}\n"));
        }
    }

    fn print(self, text: &str) {
        let mut out = io::stdout().lock();
        self.written(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    /// Remembers how writing to standard output went.
    pub(crate) fn written(self, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                CLOSED.store(true, Ordering::SeqCst);
            }
            Err(error) => {
                let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
            }
        }
    }

    /// Nobody reads on, or nothing can be written any more: who goes on for ever can stop.
    pub(crate) fn is_closed(self) -> bool {
        CLOSED.load(Ordering::SeqCst)
            || FAILED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some()
    }

    /// How the program ends, when everything else would end with `code`.
    pub(crate) fn finish(self, code: ExitCode) -> ExitCode {
        // Whatever a command forgot to say: it is one value, always.
        self.value(&());
        let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failed {
            None => code,
            Some(error) => {
                let _ = writeln!(io::stderr(), "error: write the answer\n  because: {error}");
                ExitCode::FAILURE
            }
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
        if self.json && !ANSWERED.load(Ordering::SeqCst) {
            let mut causes = causes(error).map(ToString::to_string);
            self.value(&Failed {
                error: causes.next().unwrap_or_default(),
                causes: causes.collect(),
            });
        } else {
            let _ = writeln!(io::stderr(), "{}", describe(error));
        }
    }

    /// For programs: that there will be no answer.
    pub(crate) fn interrupted(self) {
        self.value(&Failed {
            error: "interrupted".to_owned(),
            causes: Vec::new(),
        });
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
        let _ = write!(
            text,
            "{}",
            lines(&cause.to_string()).replace('\n', "\n    ")
        );
    }
    text
}

/// `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
