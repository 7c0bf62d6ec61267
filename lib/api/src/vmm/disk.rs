// SPDX-License-Identifier: Apache-2.0
//! A disk that a running guest is given.

use serde::{Deserialize, Serialize};

use super::checks::{InvalidVm, can_be_a_disk, ensure, serial};
use super::rate::DiskRate;

/// What is said of it beside its file. Checked when it is parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Wire")]
pub struct DiskAttach {
    /// The guest cannot write to it: its writes fail. Linux asks only at its start whether a disk can be written, so that a disk in a
    /// spare place never says so beforehand.
    pub read_only: bool,
    /// Serial number the guest sees (`/sys/block/vdb/serial`): at most 20 printable ASCII bytes.
    pub serial: String,
    /// How fast it may be.
    pub rate: DiskRate,
    /// Most bytes that its file may have later, for [`ControlAction::Resize`](super::ControlAction::Resize); what it has now where
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grows_to: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    rate: DiskRate,
    #[serde(default)]
    grows_to: Option<u64>,
}

impl TryFrom<Wire> for DiskAttach {
    type Error = InvalidVm;

    fn try_from(w: Wire) -> Result<DiskAttach, InvalidVm> {
        serial(&w.serial, "serial")?;
        ensure(
            w.grows_to.is_none_or(can_be_a_disk),
            "grows_to",
            "not within 512 to 2^60",
        )?;
        Ok(DiskAttach {
            read_only: w.read_only,
            serial: w.serial,
            rate: w.rate,
            grows_to: w.grows_to,
        })
    }
}
