// SPDX-License-Identifier: Apache-2.0
//! Doors for the fuzz targets to what strangers on the network and guests can send; nothing else calls these.

/// Everything that a connection without a good signature carries inside TLS: it is answered with a refusal, or not at all.
pub fn api_request(bytes: &[u8]) {
    crate::api::fuzz::request(bytes);
}

/// The part of a target behind `?`.
pub fn api_query(text: &str) {
    crate::api::fuzz::query(text);
}

/// What a guest says, as it is shown to those who ask for its logs.
pub fn workload_log(bytes: &[u8]) {
    crate::api::fuzz::workload_log(bytes);
}
