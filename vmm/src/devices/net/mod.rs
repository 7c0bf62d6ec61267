// SPDX-License-Identifier: Apache-2.0
//! A network card (virtio 1.2, 5.1) on a tap device, with checksum and segmentation offloads passed through.
//!
//! Frames are copied once through a buffer of ours: no pointer of the guest is given to the tap device, and a frame is
//! seen whole or not at all.

use std::collections::VecDeque;
use std::io;

use racklet_api::vmm::Mac;
use racklet_api::vmm::rate::CardRate;
use racklet_linux::tap::Offloads;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::memory::Memory;
use crate::rate::{self, Knob, Meter};
use crate::virtio::{Budget, Chain, Device, Fault, Queue, Turn};

mod header;

const QUEUE: u16 = 256;
const RX: usize = 0;
const TX: usize = 1;
/// `struct virtio_net_hdr_v1`, in front of every frame, towards the tap as well.
const HEADER: usize = 12;
/// The largest frame with its header: 64 KiB of IP packet, Ethernet and VLAN.
const FRAME: usize = HEADER + 65_536 + 18;
/// Most frames of a turn in one direction.
const BATCH: u32 = 128;
/// Bytes after which a turn in one direction ends: copied once, well below a millisecond.
const BATCH_BYTES: u64 = 1 << 20;

const F_CSUM: u64 = 1 << 0;
const F_GUEST_CSUM: u64 = 1 << 1;
const F_MTU: u64 = 1 << 3;
const F_MAC: u64 = 1 << 5;
const F_GUEST_TSO4: u64 = 1 << 7;
const F_GUEST_TSO6: u64 = 1 << 8;
const F_HOST_TSO4: u64 = 1 << 11;
const F_HOST_TSO6: u64 = 1 << 12;
const F_MRG_RXBUF: u64 = 1 << 15;

/// Token of [`Device::host_event`]: frames wait at the tap.
pub const TAP_READY: u32 = 0;

/// The host's side of a card: one frame with its virtio header per call, never blocking.
pub trait Tap: Send {
    /// Appends a frame to `frame`, in the room that is reserved there, and gives its length; `WouldBlock` when none waits.
    fn read(&mut self, frame: &mut Vec<u8>) -> io::Result<usize>;
    /// Gives a whole frame; one that is not taken is lost.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize>;
    /// Says what may be given.
    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()>;
}

/// What the driver knows of a card. Its address is the new machine's: two that were restored from one snapshot are two on the network.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    mtu: u16,
}

/// A card with one pair of queues. A frame that has come and has no room in the guest is held: one at most.
pub struct Net<T> {
    tap: T,
    config: [u8; 12],
    features: u64,
    /// A frame that has no room in the guest yet; empty when there is none. Like `outgoing`, it has room for the largest frame from
    /// the start, of which only what frames fill is ever written to: zeroed, both would keep 128 KiB of each card in memory.
    held: Vec<u8>,
    /// Where a frame of the guest is put together: as long as the longest so far.
    outgoing: Vec<u8>,
    /// The guest's buffers that were taken from the queue and hold nothing yet, at most as many as the queue has entries.
    taken: VecDeque<Chain>,
    /// The most buffers that the driver has had on offer at once: a frame for which these are too little will never have room.
    most: usize,
    /// What the guest sends.
    sent: Meter,
    /// What it receives.
    received: Meter,
    /// The held frame was paid for.
    paid: bool,
    knob: Knob<CardRate>,
}

impl<T: Tap> Net<T> {
    /// A card with its hardware address and the largest packet it carries.
    pub fn new(tap: T, mac: Mac, mtu: u16) -> Net<T> {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&mac.0);
        config[10..].copy_from_slice(&mtu.to_le_bytes());
        Net {
            tap,
            config,
            features: 0,
            held: Vec::with_capacity(FRAME),
            outgoing: Vec::with_capacity(FRAME),
            taken: VecDeque::new(),
            most: 0,
            sent: Meter::unlimited(rate::now),
            received: Meter::unlimited(rate::now),
            paid: false,
            knob: Knob::default(),
        }
    }

    /// From now on it is only so fast.
    pub fn limit(&mut self, rate: &CardRate) {
        self.sent.set(rate.sent.bytes, rate.sent.packets);
        (self.received).set(rate.received.bytes, rate.received.packets);
    }

    /// Sets how fast it is from another thread, with its next [`Device::refresh`].
    #[must_use]
    pub fn knob(&self) -> Knob<CardRate> {
        self.knob.clone()
    }

    fn mtu(&self) -> u16 {
        u16::from_le_bytes([self.config[10], self.config[11]])
    }

    fn transmit(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Turn, Fault> {
        let mut budget = Budget::new(BATCH, BATCH_BYTES);
        while let Some(chain) = queue.pop(memory, &mut budget)? {
            let len = usize::try_from(chain.readable_len()).unwrap_or(usize::MAX);
            if len <= HEADER || len > FRAME {
                queue.refuse(memory, chain)?; // no frame at all, or longer than any
                continue;
            }
            let mut header = [0; HEADER];
            chain.read(memory, 0, &mut header);
            let Some(header) = header::sent(header, len - HEADER, self.features) else {
                queue.refuse(memory, chain)?; // it asks for what its driver did not agree on
                continue;
            };
            if let Err(wait) = self.sent.take((len - HEADER) as u64, 1) {
                if wait.first {
                    queue.count_throttled();
                }
                queue.put_back(chain);
                return Ok(Turn::At(wait.until));
            }
            if self.outgoing.len() < len {
                self.outgoing.resize(len, 0);
            }
            let frame = &mut self.outgoing[..len];
            chain.read(memory, 0, frame);
            // The one that was judged: the guest may have written another one meanwhile.
            frame[..HEADER].copy_from_slice(&header);
            // A frame that the tap does not take (device down, header it refuses) is lost, as on a wire.
            if self.tap.write(frame).is_err() {
                queue.count_failed();
            }
            budget.bytes(len as u64);
            queue.push(memory, chain, 0)?;
        }
        Ok(budget.turn())
    }

    fn receive(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Turn, Fault> {
        let mut budget = Budget::new(BATCH, BATCH_BYTES);
        let offered = self.taken.len() + usize::from(queue.available(memory)?);
        self.most = self.most.max(offered.min(QUEUE.into()));
        loop {
            if self.held.is_empty() {
                if !budget.request() {
                    return Ok(Turn::More);
                }
                match self.tap.read(&mut self.held) {
                    Ok(len) if len > HEADER => {
                        let (header, _) = self.held.split_first_chunk_mut().expect("len > HEADER");
                        let Some(passed) = header::received(*header, len - HEADER, self.features)
                        else {
                            queue.count_failed();
                            self.held.clear();
                            continue;
                        };
                        *header = passed;
                    }
                    Ok(_) => {
                        self.held.clear();
                        continue;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    // Nothing waits, or the tap is gone: either way nothing comes.
                    Err(_) => return Ok(Turn::Done),
                }
            }
            if !self.paid {
                if let Err(wait) = self.received.take((self.held.len() - HEADER) as u64, 1) {
                    if wait.first {
                        queue.count_throttled();
                    }
                    return Ok(Turn::At(wait.until));
                }
                self.paid = true;
            }
            if !self.deliver(queue, memory)? {
                return Ok(Turn::Done);
            }
            budget.bytes(self.held.len() as u64);
            self.drop_held();
        }
    }

    fn drop_held(&mut self) {
        self.held.clear();
        self.paid = false;
    }

    /// Puts the held frame into the guest's buffers; false when there is not enough room yet. A frame that waits keeps those behind
    /// it waiting, so that one for which there will never be room is lost, as one is that finds no room at a full card.
    fn deliver(&mut self, queue: &mut Queue, memory: &Memory) -> Result<bool, Fault> {
        let merge = self.features & F_MRG_RXBUF != 0;
        // Each of the queue's entries once.
        let mut budget = Budget::new(QUEUE.into(), u64::MAX);
        let mut room = 0;
        let mut count = 0;
        while room < self.held.len() {
            if count == self.taken.len() {
                if count > 0 && count >= self.most {
                    queue.count_failed();
                    return Ok(true);
                }
                let Some(chain) = queue.pop(memory, &mut budget)? else {
                    return Ok(false); // what was taken stays for when there is enough
                };
                if chain.writable_len() < HEADER as u64 {
                    queue.refuse(memory, chain)?;
                    continue;
                }
                self.taken.push_back(chain);
            }
            room += usize::try_from(self.taken[count].writable_len()).unwrap_or(usize::MAX);
            count += 1;
            if !merge && room < self.held.len() {
                // Too small for this frame and never larger: drop the frame, keep the buffer.
                queue.count_failed();
                return Ok(true);
            }
        }
        let merged = u16::try_from(count).expect("at most QUEUE");
        self.held[10..12].copy_from_slice(&merged.to_le_bytes());
        let mut done = 0;
        for chain in self.taken.drain(..count) {
            let written = chain.write(memory, 0, &self.held[done..]);
            done += written;
            queue.add_used(
                memory,
                chain,
                u32::try_from(written).expect("at most FRAME"),
            )?;
        }
        queue.publish(memory)?;
        Ok(true)
    }
}

impl<T: Tap> Device for Net<T> {
    fn id(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        let guest = F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_MRG_RXBUF;
        guest | F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_MAC | F_MTU
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE, QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
        let has = |f| features & f != 0;
        let offloads = Offloads {
            checksum: has(F_GUEST_CSUM),
            tso4: has(F_GUEST_TSO4),
            tso6: has(F_GUEST_TSO6),
        };
        // Without offloads every frame is whole and checked: slower, and right.
        let _ = self.tap.set_offloads(offloads);
    }

    fn refresh(&mut self) {
        if let Some(rate) = self.knob.take() {
            self.limit(&rate);
        }
    }

    fn reset(&mut self) {
        self.features = 0;
        self.drop_held();
        self.sent.forget();
        self.received.forget();
        self.taken.clear();
        self.most = 0;
    }

    fn queue_off(&mut self, queue: usize) {
        if queue == RX {
            self.taken.clear();
        }
    }

    fn notify(
        &mut self,
        queue: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        match queue {
            RX => self.receive(&mut queues[RX], memory),
            _ => self.transmit(&mut queues[TX], memory),
        }
    }

    fn host_event(
        &mut self,
        _token: u32,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        self.receive(&mut queues[RX], memory)
    }

    /// A frame that waits for room is lost, as on a wire.
    fn save(&mut self, queues: &mut [Queue]) -> Value {
        for chain in self.taken.drain(..).rev() {
            queues[RX].put_back(chain);
        }
        json!(Saved { mtu: self.mtu() })
    }

    fn restore(&mut self, saved: &Value) -> Result<(), String> {
        let saved = Saved::deserialize(saved).map_err(|e| format!("no card was saved: {e}"))?;
        if saved.mtu > self.mtu() {
            return Err(format!(
                "its card carries packets of {} bytes, and the guest sends up to {}",
                self.mtu(),
                saved.mtu
            ));
        }
        Ok(())
    }

    fn more(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        let received = self.receive(&mut queues[RX], memory)?;
        Ok(received.and(self.transmit(&mut queues[TX], memory)?))
    }
}

#[cfg(test)]
mod tests;
