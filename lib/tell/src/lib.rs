// SPDX-License-Identifier: Apache-2.0
//! How programs speak to people and to what watches for them: an error with what led to it, strangers' text shown harmlessly,
//! OpenMetrics.
#![forbid(unsafe_code)]

pub mod error;
pub mod metrics;
pub mod text;
