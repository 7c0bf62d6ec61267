// SPDX-License-Identifier: Apache-2.0
//! What stands in for a guest's driver and for the host in unit tests.

mod alone;
mod both;
mod clock;
mod count;
mod driver;
mod host;
mod tap;

pub(crate) use alone::{Alone, alone};
pub(crate) use both::{Both, start};
pub(crate) use clock::{set_clock, test_clock};
pub(crate) use count::allocations;
pub(crate) use driver::{Desc, Driver, table, test_memory};
pub(crate) use host::TestHost;
pub(crate) use tap::TestTap;
