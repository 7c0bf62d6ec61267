// SPDX-License-Identifier: Apache-2.0
//! racklet-hypervisor.

fn main() {}
