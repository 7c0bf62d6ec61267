// SPDX-License-Identifier: Apache-2.0
//! The BMC's image: the board, the tasks, and what joins them. What is decided is decided in `racklet-firmware-core`.
//!
//! ```text
//! interrupt of the console's UART -> console::RECORDER -> session (TLS, lib/wire) <-> network
//! ```
//! Interrupts come first, the tasks share one executor that sleeps when none has anything to do.
#![no_std]
#![no_main]

extern crate alloc;

mod board;
mod console;
mod heap;
mod session;
mod tls;

use core::panic::PanicInfo;

use embassy_executor::{Spawner, raw};
use racklet_firmware_core::{console::Kept, vault::Vault};
use static_cell::StaticCell;

use crate::board::say;

#[cortex_m_rt::entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let mut board = board::start();
    let kept = console::start(board.history, board.random.next());
    board::listen();
    say(match kept {
        Kept::History => "bmc: the console's history goes on",
        Kept::Nothing => "bmc: a new history of the console begins",
    });
    let executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    begin(executor.spawner(), board.network, board.vault, board.random);
    loop {
        // SAFETY: this is the only call, in the one thread that there is, and no task calls it (it is not reachable from them).
        unsafe { executor.poll() };
        board::sleep();
    }
}

/// Starts the tasks. Without a vault the console is recorded and nobody gets at it.
fn begin(
    spawner: Spawner,
    network: board::Network,
    vault: [&'static [u8]; 2],
    mut random: tls::Random,
) {
    let seed = random.next();
    let config = match Vault::read(vault) {
        Ok((vault, _)) => tls::server(&vault, random),
        Err(why) => {
            say(match why {
                racklet_firmware_core::vault::Unreadable::Empty => "bmc: no vault: not enrolled",
                _ => "bmc: the vault cannot be read",
            });
            return;
        }
    };
    match config {
        Ok(config) => session::start(spawner, network, seed, &config),
        Err(_) => say("bmc: the certificate or the authority in the vault cannot be used"),
    }
}

/// Tasks have something to do: [`board::sleep`] returns at once.
#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    board::wake();
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    board::last_words(info)
}
