// SPDX-License-Identifier: Apache-2.0
//! Entropy (virtio 1.2, 5.4): fills buffers from the host kernel's generator.

use std::io;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::Value;

use crate::memory::Memory;
use crate::virtio::{Budget, Device, Fault, Queue, Turn};

/// Most bytes given per request: the driver asks again for more. A turn is 256 KiB, about a millisecond of the kernel's generator.
const MOST: usize = 4096;

/// The entropy device. It has no state.
pub struct Rng;

/// Fills `bytes` from the kernel.
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match getrandom(&mut bytes[done..], GetRandomFlags::empty()) {
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Device for Rng {
    fn id(&self) -> u32 {
        4
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64]
    }

    fn notify(
        &mut self,
        _queue: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        let mut budget = Budget::new(64, 64 * MOST as u64);
        let mut bytes = [0; MOST];
        while let Some(chain) = queues[0].pop(memory, &mut budget)? {
            let len = usize::try_from(chain.writable_len()).map_or(MOST, |len| len.min(MOST));
            if len == 0 {
                queues[0].refuse(memory, chain)?;
                continue;
            }
            // Without entropy the request comes back empty and the driver asks again.
            let filled = if fill(&mut bytes[..len]).is_ok() {
                len
            } else {
                queues[0].count_failed();
                0
            };
            let written = chain.write(memory, 0, &bytes[..filled]);
            queues[0].push(memory, chain, u32::try_from(written).expect("at most 4096"))?;
        }
        Ok(budget.turn())
    }

    fn save(&mut self, _queues: &mut [Queue]) -> Value {
        Value::Null
    }

    fn restore(&mut self, _saved: &Value) -> Result<(), String> {
        Ok(())
    }

    fn more(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        self.notify(0, queues, memory)
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::testing::{Driver, test_memory};

    #[test]
    fn buffers_are_filled_across_segments_and_bounded() {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let mut queues = [driver.queue(&memory)];
        driver.offer(&memory, &[(0x8000, 16, true), (0x9000, 16, true)]);
        driver.offer(&memory, &[(0xa000, 0x8000, true)]);
        assert_eq!(Rng.notify(0, &mut queues, &memory).unwrap(), Turn::Done);
        assert_eq!(driver.collect(&memory), Some((0, 32)));
        assert_eq!(driver.collect(&memory), Some((2, 4096)));
        let mut bytes = [0; 16];
        memory.read_slice(&mut bytes, GuestAddress(0x9000)).unwrap();
        assert_ne!(bytes, [0; 16]);
    }

    #[test]
    fn a_buffer_that_cannot_be_written_goes_back_empty() {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let mut queues = [driver.queue(&memory)];
        driver.offer(&memory, &[(0x8000, 16, false)]);
        driver.offer(&memory, &[(0x8000, 16, true)]);
        let _ = Rng.notify(0, &mut queues, &memory).unwrap();
        assert_eq!(driver.collect(&memory), Some((0, 0)));
        assert_eq!(driver.collect(&memory), Some((1, 16)));
    }
}
