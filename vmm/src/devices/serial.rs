// SPDX-License-Identifier: Apache-2.0
//! The guest's console: a 16550, wherever the architecture puts its registers, whose output goes to a bounded buffer that the event loop empties.
//!
//! When the buffer is full the vCPU waits: nothing is lost, and a guest that floods its console slows only itself down.
//!
//! Input waits here, too, until the UART's own 64 bytes have room. The event loop never waits for the UART's lock, behind which a vCPU
//! may be waiting for the event loop: where it is taken, whoever has it looks for input when done ([`type_on`]).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};

use racklet_api::vmm::console::MAX_INPUT;

use serde::{Deserialize, Serialize};
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial, SerialState};
use vmm_sys_util::eventfd::EventFd;

use crate::lock::lock;
use crate::mark::Mark;

/// Most bytes that wait for the event loop.
const FULL: usize = 64 * 1024;
/// The loop is woken for the first byte, for a whole line, and when this many bytes wait.
const ENOUGH: usize = 512;

/// Output on its way from the vCPUs to the event loop, and input on its way back.
pub struct Console {
    waiting: Mutex<Vec<u8>>,
    typed: Mutex<VecDeque<u8>>,
    emptied: Condvar,
    wake: EventFd,
    /// The guest has said something.
    pub(crate) spoke: Mark,
}

impl Console {
    /// An empty console that writes to `wake` when there is something to take.
    #[must_use]
    pub fn new(wake: EventFd) -> Arc<Console> {
        Arc::new(Console {
            waiting: Mutex::default(),
            typed: Mutex::default(),
            emptied: Condvar::new(),
            wake,
            spoke: Mark::default(),
        })
    }

    /// Whether a whole line waits, or enough bytes without one. What is less waits a little for the rest of its line.
    pub fn has_lines(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.len() >= ENOUGH || waiting.contains(&b'\n')
    }

    /// Takes input for the guest, as far as there is room for it; gives how much. [`type_on`] is to follow.
    pub fn enter(&self, bytes: &[u8]) -> usize {
        let mut typed = lock(&self.typed);
        let count = bytes.len().min(MAX_INPUT - typed.len());
        typed.extend(&bytes[..count]);
        count
    }

    /// Moves input into the UART; false when there is nothing to move or no room for it.
    fn give(&self, uart: &mut Uart) -> bool {
        let mut typed = lock(&self.typed);
        let mut bytes = [0; 64]; // as much as the UART holds at most
        let count = typed.len().min(uart.fifo_capacity()).min(bytes.len());
        if count == 0 {
            return false;
        }
        for (to, from) in bytes.iter_mut().zip(&*typed) {
            *to = *from;
        }
        // Its only error beside a full buffer is of the interrupt, which cannot fail. A driver that tries its UART in a loop takes none.
        let taken = uart.enqueue_raw_bytes(&bytes[..count]).unwrap_or(0);
        typed.drain(..taken);
        taken > 0
    }

    fn has_input(&self) -> bool {
        !lock(&self.typed).is_empty()
    }

    /// Takes what waits, at most 64 KiB, and lets vCPUs go on that wait for room.
    pub fn take(&self) -> Vec<u8> {
        let taken = std::mem::take(&mut *lock(&self.waiting));
        self.emptied.notify_all();
        taken
    }
}

/// The write end, for the UART.
#[derive(Clone)]
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
        console.spoke.set();
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
#[derive(Clone)]
pub struct Line(Arc<EventFd>);

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        // Fails only when 2^64 - 2 interrupts wait; then one is pending anyway.
        let _ = self.0.write(1);
        Ok(())
    }
}

/// A 16550.
pub type Uart = Serial<Line, NoEvents, ConsoleWriter>;

/// A UART's registers and the input that it holds: a type of the snapshot's file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    input: Vec<u8>,
}

/// What a UART holds. Input that waits before it is the host's, and so is output behind it.
pub(crate) fn save(uart: &Uart) -> State {
    let state = uart.state();
    State {
        divisor: [state.baud_divisor_low, state.baud_divisor_high],
        interrupt_enable: state.interrupt_enable,
        interrupt_identification: state.interrupt_identification,
        line_control: state.line_control,
        line_status: state.line_status,
        modem_control: state.modem_control,
        modem_status: state.modem_status,
        scratch: state.scratch,
        input: state.in_buffer,
    }
}

/// Puts it into a UART that no guest has seen, and raises its interrupt where one is pending; false where it cannot be a UART's.
pub(crate) fn restore(uart: &Mutex<Uart>, state: &State) -> bool {
    let mut uart = lock(uart);
    let [low, high] = state.divisor;
    let restored = SerialState {
        baud_divisor_low: low,
        baud_divisor_high: high,
        interrupt_enable: state.interrupt_enable,
        interrupt_identification: state.interrupt_identification,
        line_control: state.line_control,
        line_status: state.line_status,
        modem_control: state.modem_control,
        modem_status: state.modem_status,
        scratch: state.scratch,
        in_buffer: state.input.clone(),
    };
    let line = uart.interrupt_evt().clone();
    let console = uart.writer().clone();
    match Serial::from_state(&restored, line, NoEvents, console) {
        Ok(as_it_was) => {
            *uart = as_it_was;
            true
        }
        Err(_) => false,
    }
}

/// Gives the UART the input that waits for it, as far as it takes it. To be called after input was entered and, on a vCPU, after each
/// access to the UART, without its lock: so one of both is always there to move what comes in meanwhile.
pub fn type_on(uart: &Mutex<Uart>, console: &Console) {
    while console.has_input() {
        let mut uart = match uart.try_lock() {
            Ok(uart) => uart,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if !console.give(&mut uart) {
            return; // until the guest has read
        }
    }
}

/// A UART that writes to `console`.
#[must_use]
pub fn uart(console: Arc<Console>, line: EventFd) -> Uart {
    Serial::new(Line(Arc::new(line)), ConsoleWriter(console))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_that_is_typed_arrives_in_order_while_the_guest_reads_and_writes() {
        let event = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let console = Console::new(event());
        let uart = Mutex::new(uart(console.clone(), event()));
        let sent: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
        let received = thread::scope(|scope| {
            let guest = scope.spawn(|| {
                let mut received = Vec::new();
                while received.len() < sent.len() {
                    // Each access takes the lock and lets it go before the next, as on a vCPU.
                    let ready = lock(&uart).read(5) & 1 != 0;
                    type_on(&uart, &console);
                    if ready {
                        received.push(lock(&uart).read(0));
                        type_on(&uart, &console);
                        lock(&uart).write(0, b'.').unwrap();
                        type_on(&uart, &console);
                    } else {
                        thread::yield_now();
                    }
                }
                received
            });
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let taken = console.enter(rest);
                assert!(taken <= MAX_INPUT);
                type_on(&uart, &console);
                rest = &rest[taken..];
                drop(console.take());
                thread::yield_now();
            }
            while !guest.is_finished() {
                drop(console.take());
                thread::yield_now();
            }
            guest.join().unwrap()
        });
        assert_eq!(received, sent);
    }

    #[test]
    fn input_nobody_reads_is_kept_up_to_its_bound_and_never_waited_for() {
        let event = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let console = Console::new(event());
        let line = event();
        let uart = Mutex::new(uart(console.clone(), line.try_clone().unwrap()));
        lock(&uart).write(1, 1).unwrap(); // the driver wants to be told
        let held = lock(&uart);
        assert_eq!(console.enter(b"x"), 1);
        type_on(&uart, &console);
        assert!(line.read().is_err(), "whoever has the lock does it");
        drop(held);
        type_on(&uart, &console);
        assert_eq!(line.read().unwrap(), 1);
        let mut taken = 0;
        while let more @ 1.. = console.enter(&[0; 1000]) {
            taken += more;
            type_on(&uart, &console);
        }
        assert_eq!(taken, MAX_INPUT + 63, "and what the UART holds");
    }

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
