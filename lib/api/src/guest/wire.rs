// SPDX-License-Identifier: Apache-2.0
//! The file as it is written: unknown keys are refused here, bounds in `checks`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{GuestNetwork, GuestOverlay, GuestUser, GuestVolume};
use crate::V1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuestConfig {
    pub(super) v: V1,
    pub(super) hostname: String,
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    #[serde(default = "root_directory")]
    pub(super) working_directory: PathBuf,
    #[serde(default)]
    pub(super) user: GuestUser,
    pub(super) overlay: GuestOverlay,
    #[serde(default)]
    pub(super) volumes: Vec<GuestVolume>,
    #[serde(default)]
    pub(super) networks: Vec<GuestNetwork>,
    #[serde(default)]
    pub(super) dns: Vec<IpAddr>,
    #[serde(default = "default_grace")]
    pub(super) grace_s: u32,
    #[serde(default)]
    pub(super) watchdog_s: Option<u32>,
}

fn root_directory() -> PathBuf {
    PathBuf::from("/")
}

fn default_grace() -> u32 {
    10
}
