// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C: what is half made is removed, then the program ends with status 130.
//!
//! Outside of a guarded section the program ends at once. Inside of one, the readers and writers below fail with
//! "interrupted", so that the work unwinds the ordinary way and temporary folders go; a second Ctrl-C does not wait.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static ASKED: AtomicBool = AtomicBool::new(false);
static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// As shells report a program that SIGINT ended.
pub(crate) const STATUS: u8 = 130;

/// Starts listening. `last` is called before the program ends at once.
pub(crate) fn install(last: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if GUARDS.load(Ordering::SeqCst) == 0 || ASKED.swap(true, Ordering::SeqCst) {
                    last();
                    std::process::exit(STATUS.into());
                }
            }
        })?;
    Ok(())
}

/// Whether the user asked to stop.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// While it lives, Ctrl-C is handled by failing reads and writes.
pub(crate) struct Guard(());

/// Begins a section that cleans up after itself.
pub(crate) fn guard() -> Guard {
    GUARDS.fetch_add(1, Ordering::SeqCst);
    Guard(())
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A reader or writer that fails once the user asked to stop.
pub(crate) struct Interruptible<T>(pub(crate) T);

fn check() -> io::Result<()> {
    if asked() {
        Err(io::Error::other("interrupted"))
    } else {
        Ok(())
    }
}

impl<T: Read> Read for Interruptible<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check()?;
        let count = self.0.read(buffer)?;
        // Again: Ctrl-C ends the other side of a pipe too, and its end must not look like the end of the data.
        check()?;
        Ok(count)
    }
}

impl<T: Write> Write for Interruptible<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
