// SPDX-License-Identifier: Apache-2.0
//! QEMU's `mps2-an505`: the processor of an RP2350 (without its FPU), five UARTs, an Ethernet chip, and 16 MiB behind the flash's
//! contents. Sources: Arm DAI0505 (the FPGA image), Arm DDI0479 (CMSDK peripherals), and `hw/arm/mps2-tz.c` of QEMU 10.0.
//!
//! UART 0 says what the BMC does, UART 1 is the tray's console. Peripherals and memories are used by their secure addresses, in which the
//! processor starts and stays.
//!
//! The Ethernet chip stands in for the backplane's bus, which a BMC's board has in its place.

mod lan9118;
mod registers;
mod time;
mod uart;

use core::{
    fmt::{self, Write as _},
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use cortex_m::peripheral::{NVIC, SCB};
pub(crate) use lan9118::Lan9118;
use racklet_firmware_core::flash;
pub(crate) use time::now;
use uart::{CONSOLE, LOG};

use crate::{heap, tls::Random};

/// What joins this board to the others.
pub(crate) type Network = Lan9118;

/// What the rest gets, once.
pub(crate) struct Board {
    /// Survives every reset but a loss of power.
    pub(crate) history: &'static mut [u8],
    pub(crate) network: Network,
    /// The two copies.
    pub(crate) vault: [&'static [u8]; 2],
    pub(crate) random: Random,
}

/// As laid down in `memory.x`.
const HISTORY: usize = 68 << 10;

unsafe extern "C" {
    /// The first of [`HISTORY`] bytes.
    static mut _history: u8;
    /// The first of 32 bytes.
    static mut _seed: u8;
    /// The first of 32 bytes: what the generator of random bytes was at the end of the last start's beginning. A reset puts the same
    /// seed in its place again.
    static mut _carry: u8;
}

/// `-machine memory-backend=`: what a file on the host holds.
const FLASH: usize = 0x8000_0000;

/// Makes the board ready. Once, first of all.
pub(crate) fn start() -> Board {
    time::start();
    heap::start();
    LOG.start();
    CONSOLE.start();
    // SAFETY: called once (`main`), these three are named nowhere else, and any bytes are good bytes: `memory.x` gives each its own
    // place, outside of what the compiler lays out, in memory that exists whatever is in it.
    let (history, seed, carry): (&mut [u8; HISTORY], &mut [u8; 32], &mut [u8; 32]) = unsafe {
        (
            &mut *(&raw mut _history).cast(),
            &mut *(&raw mut _seed).cast(),
            &mut *(&raw mut _carry).cast(),
        )
    };
    let mut random = Random::new(&[seed, carry]);
    *carry = random.next();
    let flash = |area: flash::Area| {
        // SAFETY: the machine has 16 MiB of memory at FLASH, the area lies in the first 16 MiB (asserted in `flash`), and nothing here
        // writes to it.
        unsafe { core::slice::from_raw_parts((FLASH + area.start) as *const u8, area.length) }
    };
    Board {
        history,
        network: Lan9118::start(),
        vault: flash::VAULT.map(flash),
        random,
    }
}

/// Lets in the interrupts.
pub(crate) fn listen() {
    for interrupt in [
        uart::CONSOLE_RECEIVES,
        uart::CONSOLE_SENDS,
        lan9118::INTERRUPT,
    ] {
        // SAFETY: the handlers are there (`DefaultHandler` below), and no critical section is built on masks of single interrupts.
        unsafe { NVIC::unmask(interrupt) };
    }
}

/// Number of an interrupt, as the processor's controller counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupt(pub(crate) u16);

// SAFETY: the numbers are constants below 128, of which this machine has 32 + 92, and never change.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0
    }
}

/// All interrupts of this machine: by their number, since the table that cortex-m-rt makes without a device crate has but one entry.
#[cortex_m_rt::exception]
unsafe fn DefaultHandler(number: i16) {
    match u16::try_from(number).map(Interrupt) {
        Ok(uart::CONSOLE_RECEIVES | uart::CONSOLE_SENDS) => CONSOLE.interrupt(),
        Ok(lan9118::INTERRUPT) => lan9118::interrupt(),
        _ => panic!("interrupt {number}, which nobody asked for"),
    }
}

static AWAKE: AtomicBool = AtomicBool::new(true);

/// Has [`sleep`] return.
pub(crate) fn wake() {
    AWAKE.store(true, Ordering::Release);
}

/// Until [`wake`] was called, or an interrupt came.
///
/// With WFI, since QEMU takes WFE for a moment's pause: the host would be busy all the time.
pub(crate) fn sleep() {
    // Without interrupts, so that none comes between the look and the sleep; WFI ends for one that is pending all the same.
    cortex_m::interrupt::free(|_| {
        if !AWAKE.swap(false, Ordering::AcqRel) {
            cortex_m::asm::wfi();
        }
    });
}

/// A byte to the tray.
pub(crate) async fn to_tray(byte: u8) {
    CONSOLE.send(byte).await;
}

/// A line of the BMC's own.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(Log, "{line}\r");
}

struct Log;

impl fmt::Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            LOG.send_now(byte);
        }
        Ok(())
    }
}

/// Says what a panic said, and begins again.
pub(crate) fn last_words(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    say(format_args!("bmc: {info}"));
    SCB::sys_reset()
}
