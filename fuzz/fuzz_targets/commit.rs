// SPDX-License-Identifier: Apache-2.0
//! Commit objects of a Git server: what is signed and the signature make up the object again, byte for byte, so that nobody can
//! give a signed commit a second name.
#![no_main]

use racklet_trust::commit::{Commit, ObjectId};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(commit) = Commit::parse(bytes) {
        let signed = commit.signed_bytes();
        assert!(Commit::parse(signed).is_ok_and(|commit| commit.signature().is_none()));
        let mut again = signed.to_vec();
        if let Some(armored) = commit.signature() {
            let label = match commit.tree() {
                ObjectId::Sha1(_) => "gpgsig",
                ObjectId::Sha256(_) => "gpgsig-sha256",
            };
            let lines = armored.split_inclusive(|byte| *byte == b'\n');
            let header: Vec<u8> = lines.flat_map(|line| [b" ", line].concat()).collect();
            let blank = signed
                .windows(2)
                .position(|two| two == b"\n\n")
                .expect("it was parsed")
                + 1;
            again.splice(blank..blank, [label.as_bytes(), &header].concat());
        }
        assert_eq!(again, bytes);
    }
});
