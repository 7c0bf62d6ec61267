// SPDX-License-Identifier: Apache-2.0
//! What a client's certificate says that it may do: a name of the form `racklet:<role>:<name>` among its alternative names (URI,
//! RFC 5280, 4.2.1.6). Whether the certificate is good is for TLS to say.

use core::fmt;

/// What somebody may do on the management plane; each may do what those above may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks: consoles, sensors, logs.
    Viewer,
    /// Types on consoles, switches power.
    Operator,
    /// Changes keys, policy and firmware.
    Owner,
}

impl Role {
    /// All, from the least on.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Owner];

    /// As it stands in a certificate.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }

    /// Of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The longest name of a holder, in bytes.
pub const LONGEST_NAME: usize = crate::console::NAME;

/// Whose certificate it is, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// What it is for.
    pub role: Role,
    /// 1 to [`LONGEST_NAME`] of the letters that [`Holder::new`] takes.
    name: &'a str,
}

impl<'a> Holder<'a> {
    /// One by that name, in which letters, digits, `.`, `_`, `-` and `@` may be (it is shown to others on terminals); none otherwise.
    #[must_use]
    pub fn new(role: Role, name: &'a str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        let fits = (1..=LONGEST_NAME).contains(&name.len());
        (fits && name.bytes().all(good)).then_some(Self { role, name })
    }

    /// Out of an alternative name of a certificate; none when that is of another kind.
    // untrusted: holder
    #[must_use]
    pub fn read(uri: &'a str) -> Option<Self> {
        let (role, name) = uri.strip_prefix("racklet:")?.split_once(':')?;
        Self::new(Role::named(role)?, name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }
}

/// As it stands in a certificate.
impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "racklet:{}:{}", self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString as _;

    use super::*;

    #[test]
    fn what_is_written_into_a_certificate_is_read_out_of_it() {
        for role in Role::ALL {
            let holder = Holder::new(role, "ada@example.org").unwrap();
            assert_eq!(Holder::read(&holder.to_string()), Some(holder));
        }
    }

    #[test]
    fn a_name_that_would_do_something_to_a_terminal_is_none() {
        let long = "x".repeat(LONGEST_NAME + 1);
        for name in ["", "a b", "\x1b[2J", "ä", long.as_str()] {
            assert_eq!(Holder::new(Role::Owner, name), None, "{name:?}");
        }
        for uri in ["racklet:root:ada", "racklet:owner", "https://owner:ada", ""] {
            assert_eq!(Holder::read(uri), None, "{uri:?}");
        }
    }
}
