// SPDX-License-Identifier: Apache-2.0
//! The guest's console: a 16550, wherever the architecture puts its registers, whose output goes to a bounded buffer that the event loop empties.
//!
//! When the buffer is full the vCPU waits: nothing is lost, and a guest that floods its console slows only itself down. There is
//! no input.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};
use vmm_sys_util::eventfd::EventFd;

use crate::lock::lock;

/// Most bytes that wait for the event loop.
const FULL: usize = 64 * 1024;
/// The loop is woken for the first byte, for a whole line, and when this many bytes wait.
const ENOUGH: usize = 512;

/// Output on its way from the vCPUs to the event loop.
pub struct Console {
    waiting: Mutex<Vec<u8>>,
    emptied: Condvar,
    wake: EventFd,
}

impl Console {
    /// An empty console that writes to `wake` when there is something to take.
    #[must_use]
    pub fn new(wake: EventFd) -> Arc<Console> {
        Arc::new(Console {
            waiting: Mutex::default(),
            emptied: Condvar::new(),
            wake,
        })
    }

    /// Whether a whole line waits, or enough bytes without one. What is less waits a little for the rest of its line.
    pub fn has_lines(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.len() >= ENOUGH || waiting.contains(&b'\n')
    }

    /// Takes what waits, at most 64 KiB, and lets vCPUs go on that wait for room.
    pub fn take(&self) -> Vec<u8> {
        let taken = std::mem::take(&mut *lock(&self.waiting));
        self.emptied.notify_all();
        taken
    }
}

/// The write end, for the UART.
pub struct ConsoleWriter(Arc<Console>);

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let console = &self.0;
        let mut waiting = lock(&console.waiting);
        while waiting.len() >= FULL {
            waiting = console
                .emptied
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let first = waiting.is_empty();
        waiting.extend_from_slice(bytes);
        if first || bytes.contains(&b'\n') || waiting.len() >= ENOUGH {
            console.wake.write(1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An interrupt line of the guest: each write is one edge.
pub struct Line(pub EventFd);

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        // Fails only when 2^64 - 2 interrupts wait; then one is pending anyway.
        let _ = self.0.write(1);
        Ok(())
    }
}

/// A 16550 without input.
pub type Uart = Serial<Line, NoEvents, ConsoleWriter>;

/// A UART that writes to `console`.
#[must_use]
pub fn uart(console: Arc<Console>, line: EventFd) -> Uart {
    Serial::new(Line(line), ConsoleWriter(console))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn lines_wake_the_loop_and_a_full_buffer_makes_the_guest_wait() {
        let wake = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let console = Console::new(wake.try_clone().unwrap());
        let mut uart = uart(console.clone(), EventFd::new(libc::EFD_NONBLOCK).unwrap());
        uart.write(0, b'h').unwrap();
        assert_eq!(wake.read().unwrap(), 1, "a prompt may be all there is");
        assert!(!console.has_lines());
        uart.write(0, b'i').unwrap();
        assert!(wake.read().is_err(), "it has been told already");
        uart.write(0, b'\n').unwrap();
        assert_eq!(wake.read().unwrap(), 1);
        assert!(console.has_lines());
        assert_eq!(console.take(), b"hi\n");
        let guest = thread::spawn(move || {
            for _ in 0..FULL * 2 {
                uart.write(0, b'x').unwrap();
            }
        });
        let mut seen = 0;
        while seen < FULL * 2 {
            let taken = console.take().len();
            assert!(taken <= FULL);
            seen += taken;
            thread::yield_now();
        }
        guest.join().unwrap();
    }
}
