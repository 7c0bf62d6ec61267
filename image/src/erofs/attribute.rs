// SPDX-License-Identifier: Apache-2.0
//! Extended attributes, however a file system or an archive spells them: file capabilities are kept, everything else is left
//! out and counted, so that nothing is lost without a word.
//!
//! Spellings in pax records, as their writers have them: `SCHILY.xattr.` with the value as it is (star, GNU tar, Go),
//! `LIBARCHIVE.xattr.` with the value in base64 and the name percent-encoded (bsdtar, which writes both), `SCHILY.acl.`
//! with an access control list as text, `RHT.security.selinux` (GNU tar), `SCHILY.fflags` (file flags of chattr).

use std::collections::BTreeMap;

/// `struct vfs_ns_cap_data` (linux/capability.h), the longest of the three revisions.
pub(super) const MAX_CAPABILITY: usize = 24;

/// Something that an image does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// `SCHILY.acl.*`, `system.posix_acl_*`.
    Acl,
    /// `security.selinux`.
    Label,
    /// `user.*`.
    User,
    /// Whatever else has a name: `trusted.*`, `security.ima`, `com.apple.*`.
    Attribute,
    /// A file capability that only counts in a user namespace other than the first (its root is not root).
    ForeignCapability,
    /// A capability of something that is not a regular file: no kernel looks at it.
    OddCapability,
    /// `chattr`'s flags, such as immutable.
    Flags,
    /// Set-id bits of a file that is somebody's and is about to be root's.
    SetId,
}

impl LeftOut {
    /// What it is, for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Acl => "access control lists",
            Self::Label => "SELinux labels",
            Self::User => "user.* attributes",
            Self::Attribute => "other extended attributes",
            Self::ForeignCapability => "file capabilities for another user namespace",
            Self::OddCapability => "capabilities of what is no program",
            Self::Flags => "file flags (chattr)",
            Self::SetId => "set-id bits for others than root (--keep-owners keeps them)",
        }
    }
}

/// What was left out: of how many entries, and the first of them.
#[derive(Debug, Default)]
pub(super) struct Remarks(BTreeMap<LeftOut, (usize, String)>);

impl Remarks {
    pub(super) fn add(&mut self, what: LeftOut, path: &[u8]) {
        let (count, _) = self
            .0
            .entry(what)
            .or_insert_with(|| (0, String::from_utf8_lossy(path).into_owned()));
        *count += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LeftOut, usize, &str)> {
        let each = self.0.iter();
        each.map(|(what, (count, first))| (*what, *count, first.as_str()))
    }
}

/// The attributes of one entry while they are being read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    /// A valid value of `security.capability`.
    pub(super) capability: Option<Vec<u8>>,
    left_out: Vec<LeftOut>,
}

/// A value that is not what its name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Attributes {
    /// An attribute by the name that Linux gives it. An empty capability takes an earlier one back, as pax has it.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let what = match name {
            b"security.capability" => {
                self.capability = None;
                match capability(value)? {
                    Capability::None => return Ok(()),
                    Capability::Ours => {
                        self.capability = Some(value.to_vec());
                        return Ok(());
                    }
                    Capability::Foreign => LeftOut::ForeignCapability,
                }
            }
            b"security.selinux" => LeftOut::Label,
            _ if name.starts_with(b"system.") => LeftOut::Acl,
            _ if name.starts_with(b"user.") => LeftOut::User,
            _ => LeftOut::Attribute,
        };
        self.leave_out(what);
        Ok(())
    }

    /// A pax record, if it is about attributes.
    pub(super) fn pax(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.set(name, value)
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            self.set(
                &percent(name).ok_or(Malformed)?,
                &base64(value).ok_or(Malformed)?,
            )
        } else {
            match key {
                _ if key.starts_with(b"SCHILY.acl.") => self.leave_out(LeftOut::Acl),
                b"RHT.security.selinux" => self.leave_out(LeftOut::Label),
                b"SCHILY.fflags" => self.leave_out(LeftOut::Flags),
                _ => {}
            }
            Ok(())
        }
    }

    /// Each kind counts once per entry: bsdtar names every attribute twice.
    pub(super) fn leave_out(&mut self, what: LeftOut) {
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
    }

    pub(super) fn left_out(&self) -> impl Iterator<Item = LeftOut> {
        self.left_out.iter().copied()
    }
}

enum Capability {
    None,
    Ours,
    Foreign,
}

/// Judges a value as the kernel does (`get_vfs_caps_from_disk`): it would refuse to start a program with another one.
fn capability(value: &[u8]) -> Result<Capability, Malformed> {
    let Some(revision) = value.get(3) else {
        return match value {
            [] => Ok(Capability::None),
            _ => Err(Malformed),
        };
    };
    match (revision, value.len()) {
        (1, 12) | (2, 20) => Ok(Capability::Ours),
        (3, MAX_CAPABILITY) if value[20..] == [0; 4] => Ok(Capability::Ours),
        (3, MAX_CAPABILITY) => Ok(Capability::Foreign),
        _ => Err(Malformed),
    }
}

/// `%41` is `A`.
fn percent(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = text.iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
                u8::try_from(value).ok()?
            }
            byte => *byte,
        });
    }
    Some(decoded)
}

/// The standard alphabet; padded or, as bsdtar has it, not.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim_end_matches('=');
    <base64ct::Base64Unpadded as base64ct::Encoding>::decode_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CAP_NET_RAW, permitted and effective: what `setcap cap_net_raw+ep` writes.
    const RAW: [u8; 20] = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn a_capability_is_kept_however_it_is_spelled() {
        for (key, value) in [
            ("SCHILY.xattr.security.capability", &RAW[..]),
            (
                "LIBARCHIVE.xattr.security.capability",
                b"AQAAAgAgAAAAAAAAAAAAAAAAAAA",
            ),
            (
                "LIBARCHIVE.xattr.security%2Ecapability",
                b"AQAAAgAgAAAAAAAAAAAAAAAAAAA=",
            ),
        ] {
            let mut found = Attributes::default();
            found.pax(key.as_bytes(), value).unwrap();
            assert_eq!(found.capability.as_deref(), Some(&RAW[..]), "{key}");
            assert_eq!(found.left_out().count(), 0);
            found.pax(key.as_bytes(), b"").unwrap();
            assert_eq!(found.capability, None, "an empty value takes it back");
        }
    }

    #[test]
    fn a_capability_that_no_kernel_accepts_is_refused() {
        let third = [&[0, 0, 0, 3][..], &[0; 20]].concat();
        for value in [&RAW[..19], &[1], &third[..20], &[0; 24], &[9; 20]] {
            assert_eq!(
                Attributes::default().set(b"security.capability", value),
                Err(Malformed),
                "{value:?}"
            );
        }
        for value in ["AQAAAgAgAAAAAAAAAAAAAAAAA", "A", "AQ!A", "\u{fc}"] {
            assert_eq!(
                Attributes::default()
                    .pax(b"LIBARCHIVE.xattr.security.capability", value.as_bytes()),
                Err(Malformed),
                "{value}"
            );
        }
        assert_eq!(
            Attributes::default().pax(b"LIBARCHIVE.xattr.a%4", b""),
            Err(Malformed)
        );
    }

    #[test]
    fn a_capability_of_another_user_namespace_is_said_and_not_given_to_root() {
        let mut value = [&[1, 0, 0, 3][..], &[0; 20]].concat();
        let mut found = Attributes::default();
        found.set(b"security.capability", &value).unwrap();
        assert!(found.capability.is_some());
        value[20] = 1;
        found.set(b"security.capability", &value).unwrap();
        assert_eq!(found.capability, None);
        assert_eq!(
            found.left_out().collect::<Vec<_>>(),
            [LeftOut::ForeignCapability]
        );
    }

    #[test]
    fn everything_else_is_named_once_per_entry() {
        let mut found = Attributes::default();
        for (key, value) in [
            ("SCHILY.acl.access", "user::rw-"),
            ("SCHILY.xattr.system.posix_acl_access", "\u{2}"),
            ("RHT.security.selinux", "etc_t"),
            ("SCHILY.xattr.security.selinux", "etc_t"),
            ("LIBARCHIVE.xattr.user.note", "aGVsbG8"),
            ("SCHILY.xattr.user.note", "hello"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.fflags", "schg"),
            ("atime", "1.5"),
            ("SCHILY.ino", "7"),
        ] {
            found.pax(key.as_bytes(), value.as_bytes()).unwrap();
        }
        use LeftOut::{Acl, Attribute, Flags, Label, User};
        assert_eq!(
            found.left_out().collect::<Vec<_>>(),
            [Acl, Label, User, Attribute, Flags]
        );
    }
}
