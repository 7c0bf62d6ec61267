// SPDX-License-Identifier: Apache-2.0
//! Lines of a guest's PID 1 to its monitor, cut into pieces as a guest likes: what waits is bounded.
#![no_main]

use std::io::ErrorKind;

use racklet_vmm::agent::Agent;

libfuzzer_sys::fuzz_target!(|pieces: Vec<&[u8]>| {
    let agent = Agent::default();
    let mut stream = agent.connect();
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(taken) => {
                    assert!(taken > 0);
                    rest = &rest[taken..];
                }
                // Nobody takes the reports in between: the guest has to wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(agent.take().len() <= 256);
                }
                // What the guest said is none: the device ends the connection.
                Err(_) => return,
            }
        }
    }
});
