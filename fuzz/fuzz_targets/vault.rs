// SPDX-License-Identifier: Apache-2.0
//! A controller's vault in its two copies. What is read is the same once it was written again.
#![no_main]

use racklet_firmware_core::vault::{LONGEST, Vault};

libfuzzer_sys::fuzz_target!(|copies: (&[u8], &[u8])| {
    if let Ok((vault, number)) = Vault::read([copies.0, copies.1]) {
        let mut out = [0xff; LONGEST];
        let taken = vault.write(number, &mut out).expect("it was in a copy");
        assert_eq!(Vault::read([&out[..taken], &[]]), Ok((vault, number)));
    }
});
