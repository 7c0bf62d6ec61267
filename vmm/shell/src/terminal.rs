// SPDX-License-Identifier: Apache-2.0
//! The user's terminal while it is the guest's: keys come as they are pressed, and none means anything here.

use std::os::fd::AsFd;

use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// A terminal that is put back when this is dropped.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Of standard input, if it is a terminal that can be so.
    pub(crate) fn of_stdin() -> Option<Raw> {
        if !isatty(stdin().as_fd()) {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
