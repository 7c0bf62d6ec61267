// SPDX-License-Identifier: Apache-2.0
//! The firmware's path to the boot partition: bytes in lengths that they state themselves.
#![no_main]

use racklet_bootloader::place::PartitionId;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(partition) = PartitionId::of_device_path(bytes) {
        assert_eq!(partition.to_string().len(), 36);
    }
});
