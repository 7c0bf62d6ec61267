// SPDX-License-Identifier: Apache-2.0
//! The file as it is written: unknown keys are refused here, bounds in `checks`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{VmConfinement, VmDisk, VmNetwork};
use crate::V1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VmConfig {
    pub(super) v: V1,
    pub(super) name: String,
    pub(super) cpus: u8,
    pub(super) memory_mib: u32,
    #[serde(default)]
    pub(super) balloon_mib: u32,
    #[serde(default)]
    pub(super) kernel: Option<PathBuf>,
    #[serde(default)]
    pub(super) restore: Option<PathBuf>,
    #[serde(default)]
    pub(super) initramfs: Vec<PathBuf>,
    #[serde(default)]
    pub(super) arguments: String,
    #[serde(default)]
    pub(super) disks: Vec<VmDisk>,
    #[serde(default)]
    pub(super) spare_disks: u8,
    #[serde(default)]
    pub(super) spare_disk_bytes: Option<u64>,
    #[serde(default)]
    pub(super) networks: Vec<VmNetwork>,
    pub(super) vsock_cid: u32,
    pub(super) confinement: VmConfinement,
    #[serde(default)]
    pub(super) watchdog_s: Option<u32>,
    #[serde(default = "default_log_bytes")]
    pub(super) log_bytes: u64,
}

fn default_log_bytes() -> u64 {
    1 << 20
}
