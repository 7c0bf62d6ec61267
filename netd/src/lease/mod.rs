// SPDX-License-Identifier: Apache-2.0
//! The DHCP lease over restarts: from the bootstrap through the handoff, from an earlier netd through a file.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use racklet_api::V1;
use racklet_api::handoff::{Handoff, Lease};
use serde::{Deserialize, Serialize};

/// A lease with the time of writing, in seconds since boot: that clock goes on over restarts of netd.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    v: V1,
    at: u64,
    lease: Lease,
}

/// The best lease to go on with, as it is now: an earlier netd's, else the bootstrap's. A file that cannot be used is as
/// good as none, since DHCP gives another; `tell` gets the reason.
pub(crate) fn load(
    saved: &Path,
    handoff: &Path,
    now: Duration,
    mut tell: impl FnMut(String),
) -> Option<Lease> {
    if let Some(found) = read::<Saved>(saved, &mut tell) {
        return age(found.lease, now.as_secs().saturating_sub(found.at));
    }
    // The handoff was written right before this kernel started.
    let handoff: Handoff = read(handoff, &mut tell)?;
    age(handoff.lease?, now.as_secs())
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path, tell: &mut impl FnMut(String)) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tell(format!(
                "{} cannot be read: {error}; asking DHCP",
                path.display()
            ));
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tell(format!(
                "{} cannot be used: {error}; asking DHCP",
                path.display()
            ));
            None
        }
    }
}

/// The lease after so many seconds; nothing when it is over.
fn age(mut lease: Lease, seconds: u64) -> Option<Lease> {
    if let Some(dhcp) = &mut lease.dhcp4 {
        if dhcp.lifetime.is_some_and(|left| left <= seconds) {
            return None;
        }
        dhcp.lifetime = dhcp.lifetime.map(|left| left.saturating_sub(seconds));
        dhcp.renew_after = dhcp.renew_after.saturating_sub(seconds);
        dhcp.rebind_after = dhcp.rebind_after.saturating_sub(seconds);
    }
    Some(lease)
}

/// Remembers the lease, or that there is none. Readers see the old file or the new one.
pub(crate) fn save(path: &Path, lease: Option<Lease>, now: Duration) -> io::Result<()> {
    let Some(lease) = lease else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let saved = Saved {
        v: V1,
        at: now.as_secs(),
        lease,
    };
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(&saved)?)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests;
