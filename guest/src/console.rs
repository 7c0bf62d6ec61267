// SPDX-License-Identifier: Apache-2.0
//! What is said on the guest's console.

use std::io::Write;

use racklet_linux::clock;

/// Says one line, with the seconds since the start in front.
pub(crate) fn say(what: &str) {
    let since = clock::since_boot();
    // The console may be gone; nobody else can be told.
    let _ = writeln!(
        std::io::stderr(),
        "[{:>5}.{:03}] guest-init: {what}",
        since.as_secs(),
        since.subsec_millis()
    );
}
