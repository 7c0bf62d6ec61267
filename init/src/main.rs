// SPDX-License-Identifier: Apache-2.0
//! `/init`: PID 1; see the library.
#![forbid(unsafe_code)]

fn main() {
    racklet_init::main();
}
