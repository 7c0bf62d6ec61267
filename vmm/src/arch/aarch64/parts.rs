// SPDX-License-Identifier: Apache-2.0
//! What the machine has beside its virtio devices: a console and a clock, both behind addresses, and PSCI, the firmware's interface
//! that KVM serves itself but for the machine's end.

use std::sync::{Arc, Mutex};

use kvm_ioctls::VcpuExit;
use vm_superio::Rtc;
use vm_superio::rtc_pl031::NoEvents;
use vmm_sys_util::eventfd::EventFd;

use super::layout::{RTC, RTC_SIZE, UART, UART_SIZE};
use super::state::{PartsState, RestoreError, RtcState, State};
use crate::devices::serial::{self, Console, Uart};
use crate::lifecycle::Event;
use crate::lock::lock;

/// linux/kvm.h: KVM_SYSTEM_EVENT_SHUTDOWN, _RESET and _CRASH.
const SHUTDOWN: u32 = 1;
const RESET: u32 = 2;
const CRASH: u32 = 3;
/// linux/kvm.h, KVM_EXIT_ARM_NISV: an access to no memory by an instruction that does not tell the hypervisor what it does, a pair of
/// registers at once for example. Drivers never do that.
const UNCLEAR: u32 = 28;

/// The parts, shared by the vCPUs.
pub(crate) struct Parts {
    uart: Mutex<Uart>,
    console: Arc<Console>,
    /// PL031: gives the host's time. What a guest sets it to is the guest's alone.
    rtc: Mutex<Rtc<NoEvents>>,
}

/// The part at an address, and the offset in its registers.
enum At {
    Uart(u8),
    Rtc(u16),
}

fn at(address: u64) -> Option<At> {
    let offset = |start, size| address.checked_sub(start).filter(|o| *o < size);
    if let Some(offset) = offset(UART, UART_SIZE) {
        return Some(At::Uart(u8::try_from(offset).ok()?));
    }
    Some(At::Rtc(u16::try_from(offset(RTC, RTC_SIZE)?).ok()?))
}

impl Parts {
    /// `line` is the console's interrupt ([`super::CONSOLE_IRQ`]).
    pub(crate) fn new(console: Arc<Console>, line: EventFd) -> Parts {
        Parts {
            uart: Mutex::new(serial::uart(console.clone(), line)),
            console,
            rtc: Mutex::new(Rtc::new()),
        }
    }

    /// What the registers hold.
    pub(super) fn save(&self) -> PartsState {
        let rtc = lock(&self.rtc).state();
        PartsState {
            uart: serial::save(&lock(&self.uart)),
            rtc: RtcState {
                load: rtc.lr,
                offset: rtc.offset,
                alarm: rtc.mr,
                mask: rtc.imsc,
                raised: rtc.ris,
            },
        }
    }

    /// Puts them back. Raises the console's interrupt where the guest waits for one: the interrupt controller has to be as it was
    /// already.
    pub(crate) fn restore(&self, state: &State) -> Result<(), RestoreError> {
        let PartsState { uart, rtc } = &state.parts;
        if !serial::restore(&self.uart, uart) {
            return Err(RestoreError::Wrong("more input than a UART takes"));
        }
        let rtc = vm_superio::RtcState {
            lr: rtc.load,
            offset: rtc.offset,
            mr: rtc.alarm,
            imsc: rtc.mask,
            ris: rtc.raised,
        };
        *lock(&self.rtc) = Rtc::from_state(&rtc, NoEvents);
        Ok(())
    }

    /// Input was entered at the console: gives the guest what its UART takes, without waiting.
    pub(crate) fn input(&self) {
        serial::type_on(&self.uart, &self.console);
    }

    /// Serves an exit of a vCPU that is no access to memory. Gives the guest's end, if it is one.
    pub(crate) fn serve(&self, exit: VcpuExit<'_>) -> Option<Event> {
        Some(match exit {
            VcpuExit::SystemEvent(SHUTDOWN, _) => Event::PowerOff,
            VcpuExit::SystemEvent(RESET, _) => Event::Restart,
            VcpuExit::SystemEvent(CRASH, _) => {
                Event::Lost("the guest told its firmware that it crashed".to_owned())
            }
            VcpuExit::Unsupported(UNCLEAR) => Event::Lost(
                "the guest went where no memory is, by an instruction that no device serves"
                    .to_owned(),
            ),
            other => Event::VcpuFailed(format!("unexpected exit of the guest: {other:?}")),
        })
    }

    /// A guest's write to an address that is neither memory nor a virtio device's.
    pub(crate) fn write_at(&self, address: u64, data: &[u8]) {
        match (at(address), data) {
            (Some(At::Uart(offset)), [value]) => {
                // Its only errors are of the console's wake-up, which cannot fail while the loop lives.
                let _ = lock(&self.uart).write(offset, *value);
                self.input();
            }
            (Some(At::Rtc(offset)), data) => {
                if let Ok(data) = data.try_into() {
                    lock(&self.rtc).write(offset, data);
                }
            }
            _ => {}
        }
    }

    /// A guest's read of such an address: `data` stays as it is where nothing answers.
    pub(crate) fn read_at(&self, address: u64, data: &mut [u8]) {
        match (at(address), data) {
            (Some(At::Uart(offset)), [value]) => {
                *value = lock(&self.uart).read(offset);
                self.input();
            }
            (Some(At::Rtc(offset)), data) => {
                if let Ok(data) = data.try_into() {
                    lock(&self.rtc).read(offset, data);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn parts() -> (Arc<Console>, Parts) {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let console = Console::new(event());
        (console.clone(), Parts::new(console, event()))
    }

    #[test]
    fn each_address_reaches_its_part() {
        let (console, parts) = parts();
        parts.write_at(UART, b"x");
        assert_eq!(console.take(), b"x");
        let mut byte = [0xff];
        parts.read_at(UART + 5, &mut byte);
        assert_eq!(byte[0] & 0x60, 0x60, "the console can take more");
        let read = |address| {
            let mut word = [0xff; 4];
            parts.read_at(address, &mut word);
            u32::from_le_bytes(word)
        };
        // What the driver knows a PL031 by (Arm DDI 0224, 3.4): part 0x031 of designer 0x41.
        assert_eq!((read(RTC + 0xfe0), read(RTC + 0xfe4)), (0x31, 0x10));
        let now = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs()
        };
        let (before, shown, after) = (now(), u64::from(read(RTC)), now());
        assert!((before..=after).contains(&shown));
        assert_eq!(
            (read(UART + 8), read(RTC + 0x1000), read(0)),
            (u32::MAX, u32::MAX, u32::MAX)
        );
    }

    #[test]
    fn what_the_parts_hold_is_put_into_others() {
        let (console, old) = parts();
        // The divisor (behind bit 7 of the line control), a scratch byte, and a clock that is set an hour early.
        for (offset, value) in [(3, 0x83), (0, 12), (3, 3), (7, 0xa5), (1, 1)] {
            old.write_at(UART + offset, &[value]);
        }
        let clock = |parts: &Parts| {
            let mut word = [0; 4];
            parts.read_at(RTC, &mut word);
            u32::from_le_bytes(word)
        };
        let early = clock(&old) - 3600;
        old.write_at(RTC + 8, &early.to_le_bytes());
        assert_eq!(console.enter(b"typed"), 5);
        old.input();
        let mut state = super::super::state::example(1);
        state.parts = old.save();
        let (_, new) = parts();
        new.restore(&state).unwrap();
        assert_eq!(new.save(), old.save());
        assert!((early..early + 60).contains(&clock(&new)));
        let mut byte = [0];
        let typed: Vec<u8> = (0..5)
            .map(|_| {
                new.read_at(UART, &mut byte);
                byte[0]
            })
            .collect();
        assert_eq!(typed, b"typed");
        let value = serde_json::to_value(&state.parts.uart).unwrap();
        let mut value = value;
        value["input"] = serde_json::json!(vec![0; 65]);
        state.parts.uart = serde_json::from_value(value).unwrap();
        assert!(new.restore(&state).is_err(), "a UART takes 64 bytes");
    }

    #[test]
    fn accesses_of_a_wrong_width_reach_nothing() {
        let (console, parts) = parts();
        parts.write_at(UART, b"xy");
        parts.write_at(RTC + 8, &[1]);
        let mut word = [0xff; 8];
        parts.read_at(RTC, &mut word);
        parts.read_at(UART + 5, &mut word[..2]);
        assert_eq!((console.take(), word), (Vec::new(), [0xff; 8]));
    }

    #[test]
    fn the_firmwares_calls_are_named_and_strange_exits_end_the_guest() {
        let (_, parts) = parts();
        let serve = |exit| parts.serve(exit);
        assert_eq!(serve(VcpuExit::SystemEvent(1, &[0])), Some(Event::PowerOff));
        assert_eq!(serve(VcpuExit::SystemEvent(2, &[0])), Some(Event::Restart));
        for exit in [VcpuExit::SystemEvent(3, &[]), VcpuExit::Unsupported(28)] {
            assert!(matches!(serve(exit), Some(Event::Lost(_))));
        }
        for exit in [
            VcpuExit::SystemEvent(4, &[]),
            VcpuExit::Debug(Default::default()),
        ] {
            assert!(matches!(serve(exit), Some(Event::VcpuFailed(_))));
        }
    }
}
