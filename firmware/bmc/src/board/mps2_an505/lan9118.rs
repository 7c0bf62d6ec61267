// SPDX-License-Identifier: Apache-2.0
//! SMSC LAN9118 (datasheet revision 1.5; QEMU's `hw/net/lan9118.c`): one frame at a time through its two FIFOs, by the processor.
//!
//! What the chip says of a frame's length is bounded before it is used: a frame that is too long or broken is drained and dropped.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_sync::waitqueue::AtomicWaker;

use super::{Interrupt, registers::Registers};

pub(super) const INTERRUPT: Interrupt = Interrupt(48);

// SAFETY: the Ethernet chip of the machine (DAI0505, table 4-1: 0x5200_0000, secure).
const CHIP: Registers = unsafe { Registers::at(0x5200_0000) };

const RECEIVED_DATA: usize = 0x00;
const SEND_DATA: usize = 0x20;
const RECEIVED_STATUS: usize = 0x40;
const SENT_STATUS: usize = 0x48;
const INTERRUPT_CONFIG: usize = 0x54;
const INTERRUPT_STATUS: usize = 0x58;
const INTERRUPT_ENABLE: usize = 0x5c;
const FIFO_LEVELS: usize = 0x68;
const RECEIVE_CONFIG: usize = 0x6c;
const SEND_CONFIG: usize = 0x70;
const HARDWARE_CONFIG: usize = 0x74;
const RECEIVED_USED: usize = 0x7c;
const SEND_FREE: usize = 0x80;
const MAC_COMMAND: usize = 0xa4;
const MAC_DATA: usize = 0xa8;

/// A frame has arrived: more than 0 are in the status FIFO.
const ARRIVED: u32 = 1 << 3;
const RESET: u32 = 1;
const SEND_ON: u32 = 1 << 1;
/// Enabled, active high, push-pull.
const INTERRUPT_ON: u32 = 0x111;
const MAC_BUSY: u32 = 1 << 31;
const MAC_READ: u32 = 1 << 30;
const MAC_CONTROL: u32 = 1;
const MAC_ADDRESS_HIGH: u32 = 2;
const MAC_ADDRESS_LOW: u32 = 3;
const MAC_RECEIVES_AND_SENDS: u32 = 0b1100;
const BROKEN: u32 = 1 << 15;
const FIRST_AND_LAST: u32 = 0b11 << 12;

/// With the Ethernet head, without the checksum.
const FRAME: usize = 1514;
const CHECKSUM: usize = 4;
/// How often a register is looked at before the chip counts as dead.
const PATIENCE: u32 = 100_000;

static ARRIVALS: AtomicWaker = AtomicWaker::new();

pub(crate) struct Lan9118 {
    address: [u8; 6],
}

/// Whether a register came to be so.
fn comes(mut is_so: impl FnMut() -> bool) -> bool {
    (0..PATIENCE).any(|_| is_so())
}

fn mac_write(register: u32, value: u32) {
    CHIP.write(MAC_DATA, value);
    CHIP.write(MAC_COMMAND, MAC_BUSY | register);
    comes(|| CHIP.read(MAC_COMMAND) & MAC_BUSY == 0);
}

fn mac_read(register: u32) -> u32 {
    CHIP.write(MAC_COMMAND, MAC_BUSY | MAC_READ | register);
    comes(|| CHIP.read(MAC_COMMAND) & MAC_BUSY == 0);
    CHIP.read(MAC_DATA)
}

/// Masked until the driver has fetched everything, so that one frame means one interrupt.
pub(super) fn interrupt() {
    CHIP.write(INTERRUPT_ENABLE, 0);
    CHIP.write(INTERRUPT_STATUS, ARRIVED);
    ARRIVALS.wake();
}

impl Lan9118 {
    pub(super) fn start() -> Self {
        CHIP.write(HARDWARE_CONFIG, RESET);
        comes(|| CHIP.read(HARDWARE_CONFIG) & RESET == 0);
        let (low, high) = (mac_read(MAC_ADDRESS_LOW), mac_read(MAC_ADDRESS_HIGH));
        let [a, b, c, d] = low.to_le_bytes();
        let [e, f, ..] = high.to_le_bytes();
        CHIP.write(RECEIVE_CONFIG, 0);
        CHIP.write(SEND_CONFIG, SEND_ON);
        mac_write(MAC_CONTROL, MAC_RECEIVES_AND_SENDS);
        CHIP.write(FIFO_LEVELS, 0);
        CHIP.write(INTERRUPT_STATUS, u32::MAX);
        CHIP.write(INTERRUPT_CONFIG, INTERRUPT_ON);
        CHIP.write(INTERRUPT_ENABLE, ARRIVED);
        Self {
            address: [a, b, c, d, e, f],
        }
    }

    fn has_room() -> bool {
        // What became of earlier frames is read and not looked at: the layers above repeat what got lost.
        while CHIP.read(SEND_FREE) >> 16 & 0xff > 0 {
            CHIP.read(SENT_STATUS);
        }
        // Two words of commands come before the frame.
        (CHIP.read(SEND_FREE) & 0xffff) as usize >= FRAME + 2 + 8
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Free;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Arrived, Free)> {
        loop {
            ARRIVALS.register(cx.waker());
            if CHIP.read(RECEIVED_USED) >> 16 & 0xff == 0 {
                CHIP.write(INTERRUPT_ENABLE, ARRIVED);
                return None;
            }
            if !Self::has_room() {
                cx.waker().wake_by_ref();
                return None;
            }
            let status = CHIP.read(RECEIVED_STATUS);
            let length = (status >> 16 & 0x3fff) as usize;
            let frame = length.saturating_sub(CHECKSUM);
            let arrived = Arrived {
                length: frame,
                words: length.div_ceil(4),
            };
            if status & BROKEN == 0 && (1..=FRAME).contains(&frame) {
                return Some((arrived, Free));
            }
            drop(arrived);
        }
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Free> {
        let room = Self::has_room();
        if !room {
            cx.waker().wake_by_ref();
        }
        room.then_some(Free)
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        // QEMU's is up whenever there is a network behind it.
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// The frame at the front of the chip. Whoever drops it without looking has drained it.
pub(crate) struct Arrived {
    length: usize,
    /// Of 32 bits, that are still in the chip.
    words: usize,
}

impl Drop for Arrived {
    fn drop(&mut self) {
        for _ in 0..self.words {
            CHIP.read(RECEIVED_DATA);
        }
    }
}

impl embassy_net_driver::RxToken for Arrived {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, act: F) -> R {
        let mut frame = [0; FRAME];
        for word in frame[..self.length].chunks_mut(4) {
            word.copy_from_slice(&CHIP.read(RECEIVED_DATA).to_le_bytes()[..word.len()]);
            self.words -= 1;
        }
        act(&mut frame[..self.length])
    }
}

/// Room for a frame in the chip.
pub(crate) struct Free;

impl embassy_net_driver::TxToken for Free {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, act: F) -> R {
        let mut frame = [0; FRAME];
        // smoltcp asks for no more than the capabilities allow.
        let frame = &mut frame[..length.min(FRAME)];
        let result = act(frame);
        let bytes = u32::try_from(frame.len()).unwrap_or(0);
        CHIP.write(SEND_DATA, FIRST_AND_LAST | bytes);
        CHIP.write(SEND_DATA, bytes);
        for piece in frame.chunks(4) {
            let mut word = [0; 4];
            word[..piece.len()].copy_from_slice(piece);
            CHIP.write(SEND_DATA, u32::from_le_bytes(word));
        }
        result
    }
}
