// SPDX-License-Identifier: Apache-2.0
//! The one recorder, between the interrupt that fills it and the sessions that read it.

use core::{
    cell::RefCell,
    sync::atomic::{AtomicU32, Ordering},
};

use critical_section::Mutex;
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, pipe::Pipe, signal::Signal};
use racklet_firmware_core::console::{Input, Kept, Line, Received, Recorder};
use racklet_wire::{access::LONGEST_NAME, console::Event};

use crate::{board, session::SESSIONS};

/// All that the console is, behind one lock. Held for as long as it takes to copy a frame, a few microseconds, in which the
/// UART's own buffer has to do.
pub(crate) struct Console {
    pub(crate) recorder: Recorder<'static>,
    pub(crate) input: Input,
    /// The name in the holder's certificate.
    pub(crate) holder: name::Name,
    line: Line,
}

static CONSOLE: Mutex<RefCell<Option<Console>>> = Mutex::new(RefCell::new(None));
/// Bit n: session n waits for something new.
static WAITING: AtomicU32 = AtomicU32::new(0);
static NEWS: [Signal<CriticalSectionRawMutex, ()>; SESSIONS] = [const { Signal::new() }; SESSIONS];

/// What is typed, on its way to the tray.
pub(crate) static TYPED: Pipe<CriticalSectionRawMutex, TYPED_ROOM> = Pipe::new();
/// Bytes: a frame fits.
pub(crate) const TYPED_ROOM: usize = 1024;

/// Takes over what is in memory. Once, before the UART's interrupt is let in.
pub(crate) fn start(memory: &'static mut [u8], fresh: [u8; 32]) -> Kept {
    let [a, b, c, d, e, f, g, h, ..] = fresh;
    let (mut recorder, kept) = Recorder::open(memory, u64::from_le_bytes([a, b, c, d, e, f, g, h]))
        .expect("the linker script gives it 68 KiB");
    if kept == Kept::History {
        recorder.note(Event::Restart);
    }
    critical_section::with(|cs| {
        *CONSOLE.borrow_ref_mut(cs) = Some(Console {
            recorder,
            input: Input::new(),
            holder: name::Name::default(),
            line: Line::new(),
        });
    });
    kept
}

/// What `act` makes of the console. It must be short: no interrupt gets in meanwhile.
pub(crate) fn with<T>(act: impl FnOnce(&mut Console) -> T) -> T {
    critical_section::with(|cs| {
        act(CONSOLE
            .borrow_ref_mut(cs)
            .as_mut()
            .expect("`start` comes before interrupts and tasks"))
    })
}

/// From the UART's interrupt.
pub(crate) fn received(what: Received) {
    with(|console| {
        let Console { recorder, line, .. } = console;
        let byte = line.receive(what, board::now(), |event| recorder.note(event));
        if let Some(byte) = byte {
            recorder.append(&[byte]);
        }
    });
    tell();
}

/// What is due without anything being received; once a second.
pub(crate) fn tick() {
    let changed = with(|console| {
        let Console {
            recorder,
            line,
            input,
            ..
        } = console;
        let before = (recorder.events(), input.changes());
        line.tick(board::now(), |event| recorder.note(event));
        input.tick(board::now());
        before != (recorder.events(), input.changes())
    });
    if changed {
        tell();
    }
}

/// Wakes the sessions that wait.
pub(crate) fn tell() {
    let mut waiting = WAITING.swap(0, Ordering::AcqRel);
    while waiting != 0 {
        let session = waiting.trailing_zeros() as usize;
        NEWS[session].signal(());
        waiting &= waiting - 1;
    }
}

/// Until something new may be there for this session, since the last [`expect`].
pub(crate) async fn news(session: usize) {
    NEWS[session].wait().await;
}

/// From here on this session is told of news. To be called before it looks for the last time, so that none is missed in between.
pub(crate) fn expect(session: usize) {
    WAITING.fetch_or(1 << session, Ordering::AcqRel);
}

/// A name of at most [`LONGEST_NAME`] bytes, kept by value.
pub(crate) mod name {
    use super::LONGEST_NAME;

    /// Text without a place of its own.
    #[derive(Clone, Copy)]
    pub(crate) struct Name {
        bytes: [u8; LONGEST_NAME],
        length: usize,
    }

    impl Default for Name {
        fn default() -> Self {
            Self {
                bytes: [0; LONGEST_NAME],
                length: 0,
            }
        }
    }

    impl Name {
        pub(crate) fn of(text: &str) -> Self {
            let mut name = Self::default();
            let length = text.len().min(LONGEST_NAME);
            name.bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
            name.length = length;
            name
        }

        pub(crate) fn text(&self) -> &str {
            str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
        }
    }
}
