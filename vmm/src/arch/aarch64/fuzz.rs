// SPDX-License-Identifier: Apache-2.0
//! A door for the fuzz target to a snapshot's arm64 machine, on any host; nothing else calls it.

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::gic::Gic;
use super::layout::{RTC, UART};
use super::parts::Parts;
use super::state::{State, judged_alone};
use crate::devices::serial::Console;

/// A machine's state as anybody may have written it: judged, and its parts put into new ones, whose registers are then read and
/// written as a guest does it.
pub fn state(body: &[u8]) {
    let Ok(state) = serde_json::from_slice::<State>(body) else {
        return;
    };
    for gic in [Gic::V2, Gic::V3] {
        judged_alone(&state, gic);
    }
    let parts = || {
        let event = || EventFd::new(EFD_NONBLOCK).expect("an event");
        Parts::new(Console::new(event()), event())
    };
    let new = parts();
    if new.restore(&state).is_err() {
        return;
    }
    for offset in 0..8 {
        new.read_at(UART + offset, &mut [0]);
        new.write_at(UART + offset, &[0x5a]);
        new.read_at(RTC + 4 * offset, &mut [0; 4]);
        new.write_at(RTC + 4 * offset, &[1; 4]);
    }
    new.input();
    // What a monitor saves, a monitor takes.
    let saved = new.save();
    let mut again = state;
    again.parts = saved.clone();
    let other = parts();
    assert!(other.restore(&again).is_ok());
    assert_eq!(other.save(), saved);
}
