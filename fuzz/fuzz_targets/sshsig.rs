// SPDX-License-Identifier: Apache-2.0
//! Armored signatures: from Git servers, from clients of the API, from the boot partition.
#![no_main]

use racklet_trust::sshsig::SshSig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(signature) = SshSig::parse(bytes) {
        assert!(signature.verify("git", b"never signed").is_err());
    }
});
