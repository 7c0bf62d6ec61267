// SPDX-License-Identifier: Apache-2.0
//! Registers of 32 bits at fixed addresses.

/// A block of them, by its first address.
#[derive(Clone, Copy)]
pub(super) struct Registers(usize);

impl Registers {
    /// # Safety
    /// At `base` there has to be a block of device registers as large as the offsets that are used, for reading and writing.
    pub(super) const unsafe fn at(base: usize) -> Self {
        Self(base)
    }

    /// The register so many bytes behind the first.
    pub(super) fn read(self, offset: usize) -> u32 {
        // SAFETY: `at`'s caller promised that a device is here.
        unsafe { ((self.0 + offset) as *const u32).read_volatile() }
    }

    pub(super) fn write(self, offset: usize, value: u32) {
        // SAFETY: `at`'s caller promised that a device is here.
        unsafe { ((self.0 + offset) as *mut u32).write_volatile(value) }
    }
}
