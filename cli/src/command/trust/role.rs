// SPDX-License-Identifier: Apache-2.0
//! Roles as they are written on the command line.

use racklet_trust::Role;

/// The roles and what they are for.
pub(crate) const ROLES: [(Role, &str); 4] = [
    (Role::Root, "may change who may do what"),
    (Role::Config, "may change what runs"),
    (
        Role::Payload,
        "may release operating systems and workload images",
    ),
    (Role::Firmware, "may release what boots first"),
];

/// `root=2`.
pub(crate) fn threshold(text: &str) -> Result<(Role, u8), String> {
    let (role, count) = text.split_once('=').ok_or("write ROLE=N, such as root=2")?;
    let count = count.parse().ok().filter(|count| *count > 0);
    Ok((
        role_named(role)?,
        count.ok_or("the number must be from 1 to 255")?,
    ))
}

/// `config`.
pub(crate) fn role_named(text: &str) -> Result<Role, String> {
    ROLES
        .into_iter()
        .map(|(role, _)| role)
        .find(|role| role.to_string() == text)
        .ok_or_else(|| {
            format!("there is no role `{text}`; the roles are root, config, payload and firmware")
        })
}

pub(crate) fn role_and_key(text: &str) -> Result<(Role, String), String> {
    let (role, key) = text
        .split_once('=')
        .ok_or("write ROLE=KEY, such as config=~/.ssh/anna.pub")?;
    Ok((role_named(role)?, key.to_owned()))
}
