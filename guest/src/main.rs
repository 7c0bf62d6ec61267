// SPDX-License-Identifier: Apache-2.0
//! `/init` of a microVM.
#![forbid(unsafe_code)]

fn main() {
    racklet_guest::run()
}
