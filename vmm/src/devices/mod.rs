// SPDX-License-Identifier: Apache-2.0
//! The devices of a microVM: state machines over guest memory, queues and ports.

pub mod block;
pub mod net;
pub mod rng;
pub mod serial;
pub mod vsock;
