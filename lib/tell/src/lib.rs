// SPDX-License-Identifier: Apache-2.0
//! How programs speak to people: an error with what led to it, and strangers' text shown harmlessly.
#![forbid(unsafe_code)]

pub mod error;
pub mod text;
