// SPDX-License-Identifier: Apache-2.0
//! Descriptor chains as a hostile guest writes them: whatever lies in its memory, what comes out is inside the bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use racklet_vmm::memory::{self, Memory};
use racklet_vmm::virtio::Chain;
use std::sync::OnceLock;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

const SIZE: u64 = 0x1_0000;

fuzz_target!(|data: &[u8]| {
    static MEMORY: OnceLock<Memory> = OnceLock::new();
    let memory = MEMORY.get_or_init(|| memory::map(&[(0, SIZE)]).expect("64 KiB can be mapped"));
    let Some((first, table)) = data.split_first() else {
        return;
    };
    let table = &table[..table.len().min(0x8000)];
    memory
        .write_slice(&[0; 0x8000], GuestAddress(0))
        .expect("inside");
    memory.write_slice(table, GuestAddress(0)).expect("inside");
    let Ok(chain) = Chain::walk(memory, 0, 128, u16::from(*first)) else {
        return;
    };
    let segments = chain
        .readable(0, u64::MAX)
        .chain(chain.writable(0, u64::MAX));
    assert!(segments.clone().count() <= 128);
    for segment in segments {
        assert!(
            segment.len > 0
                && memory
                    .get_slice(segment.address, segment.len as usize)
                    .is_ok()
        );
    }
    let mut bytes = [0; 4096];
    let expected = chain.readable_len().min(4096) as usize;
    assert_eq!(chain.read(memory, 0, &mut bytes), expected);
    let expected = chain.writable_len().min(4096) as usize;
    assert_eq!(chain.write(memory, 0, &bytes), expected);
});
