// SPDX-License-Identifier: Apache-2.0
//! What reaches the loop of `supervise` from the threads that wait for it.

use racklet_api::guest::{AgentOrder, WorkloadLine};

use crate::exec::Request;

/// What the loop wakes up for.
pub(crate) enum Event {
    /// An order on the connection with this number.
    Order(u64, AgentOrder),
    /// The connection with this number is gone.
    Broken(u64),
    /// A child ended.
    Child,
    /// The kernel or a process in the guest asks PID 1 to end.
    Terminate,
    /// A line of output.
    Output(WorkloadLine),
    /// A stream of output ended.
    OutputEnded,
    /// Another process is to be started.
    Exec(Box<Request>),
}
