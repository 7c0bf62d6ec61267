// SPDX-License-Identifier: Apache-2.0
//! `racklet trust show`.

use std::collections::BTreeMap;

use super::role::ROLES;
use crate::answer::{KeyShown, RoleShown, RootPending, RootShown};
use crate::output::Output;
use crate::rack::Rack;
use crate::ssh;

pub(super) fn show(rack: &Rack, output: Output) -> anyhow::Result<()> {
    let root = rack.head()?.root.clone();
    let pending = rack.pending(&root)?;
    let pin = rack.pin()?;
    let known = ssh::available();
    let mut text = format!(
        "rack {}, trust root version {}\nroot sha256:{pin}\n",
        root.rack(),
        root.version()
    );
    let mut roles = BTreeMap::new();
    for (role, meaning) in ROLES {
        let keys = root.role(role);
        let name = role.to_string();
        text.push_str(&format!(
            "\n{name:<9} {meaning}; {} of {}\n",
            keys.threshold,
            keys.keys.len()
        ));
        for key in &keys.keys {
            let yours =
                known
                    .iter()
                    .find(|known| known.public == *key)
                    .map(|key| match &key.path {
                        Some(path) => format!("  yours: {}", path.display()),
                        None => format!("  yours: agent {}", key.comment),
                    });
            text.push_str(&format!(
                "  {} {}{}\n",
                key.algorithm(),
                key.fingerprint(),
                yours.unwrap_or_default()
            ));
        }
        let keys = root.role(role).keys.iter().map(KeyShown::of).collect();
        roles.insert(
            role.to_string(),
            RoleShown {
                threshold: root.role(role).threshold,
                keys,
            },
        );
    }
    if let Some((files, reason)) = &pending {
        text.push_str(&format!(
            "\nversion {} is being prepared and does not count yet: {reason}\n",
            files.version
        ));
    }
    let pending = pending.map(|(files, reason)| RootPending {
        version: files.version,
        reason,
    });
    output.answer(
        &text,
        &RootShown {
            rack: root.rack().to_string(),
            root: format!("sha256:{pin}"),
            version: root.version(),
            roles,
            pending,
        },
    );
    Ok(())
}
