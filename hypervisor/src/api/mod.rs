// SPDX-License-Identifier: Apache-2.0
//! The API: the same answers over the Unix socket (root only) and over HTTPS (signed requests).

pub(crate) mod fuzz;
mod gate;
mod logs;
mod metrics;
mod monitors;
mod polled;
mod request;
mod routes;
mod seats;
mod server;
mod tls;

pub(crate) use server::serve;
