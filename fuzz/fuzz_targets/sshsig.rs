// SPDX-License-Identifier: Apache-2.0
//! Armored signatures: from Git servers, from clients of the API, from the boot partition. What is read has one spelling.
#![no_main]

use racklet_trust::sshsig::SshSig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(signature) = SshSig::parse(bytes) {
        assert!(signature.verify("git", b"never signed").is_err());
        assert_eq!(signature.to_armored(), text);
    }
    if let Ok(signature) = SshSig::parse_line(text) {
        let armored = signature.to_armored();
        let lines = armored.lines().filter(|line| !line.starts_with('-'));
        assert_eq!(lines.collect::<String>(), text);
    }
});
