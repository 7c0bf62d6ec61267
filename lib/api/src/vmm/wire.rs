// SPDX-License-Identifier: Apache-2.0
//! The files as they are written: unknown keys are refused here, bounds in `checks`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{
    GuestNetwork, GuestOverlay, GuestUser, GuestVolume, V1, VmConfinement, VmDisk, VmNetwork,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VmConfig {
    pub(super) v: V1,
    pub(super) name: String,
    pub(super) cpus: u8,
    pub(super) memory_mib: u32,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: Vec<PathBuf>,
    #[serde(default)]
    pub(super) arguments: String,
    #[serde(default)]
    pub(super) disks: Vec<VmDisk>,
    #[serde(default)]
    pub(super) networks: Vec<VmNetwork>,
    pub(super) vsock_cid: u32,
    pub(super) confinement: VmConfinement,
    #[serde(default = "default_log_bytes")]
    pub(super) log_bytes: u64,
}

fn default_log_bytes() -> u64 {
    1 << 20
}

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
}

fn root_directory() -> PathBuf {
    PathBuf::from("/")
}

fn default_grace() -> u32 {
    10
}
