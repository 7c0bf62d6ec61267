// SPDX-License-Identifier: Apache-2.0
//! Git commits: the few header lines that decide about trust, and the signature over them.
//!
//! Git signs the object without its signature header (`gpgsig`, in a SHA-256 repository `gpgsig-sha256`), in the namespace `git`.
//! This module reads exactly that and refuses every object that two readers could take for two things (what `git fsck --strict` calls
//! an error, and more), or that is a second spelling of a signed commit. It does not hash objects: that an object has the name it was asked for by is the object store's promise.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    Verified,
    digest::Hex,
    namespace,
    root::{Role, TrustRoot, Unauthorised},
};

/// The largest commit object that is read, in bytes.
pub const MAX_SIZE: usize = 64 * 1024;
/// The most parents of a commit; an octopus of more is refused.
pub const MAX_PARENTS: usize = 16;

/// Dates are below this, Unix time in seconds: the year 36812, with room for sums in any reader. A date counts for good, as the
/// tray's time floor, so one that no clock can reach would keep every certificate from ever being valid again.
pub const MAX_TIME: u64 = 1 << 40;

/// The name of a Git object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// In a repository of object format `sha1`.
    Sha1(Hex<20>),
    /// In a repository of object format `sha256`.
    Sha256(Hex<32>),
}

impl ObjectId {
    /// From the binary form: 20 or 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(sha1) = bytes.try_into() {
            return Some(Self::Sha1(Hex(sha1)));
        }
        bytes
            .try_into()
            .ok()
            .map(|sha256| Self::Sha256(Hex(sha256)))
    }

    /// From 40 or 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        match digits.len() {
            40 => digits.parse().ok().map(Self::Sha1),
            64 => digits.parse().ok().map(Self::Sha256),
            _ => None,
        }
    }

    /// The binary form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(Hex(bytes)) => bytes,
            Self::Sha256(Hex(bytes)) => bytes,
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha1(hex) => hex.fmt(f),
            Self::Sha256(hex) => hex.fmt(f),
        }
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why bytes are not a commit that may be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Longer than [`MAX_SIZE`].
    #[error("the commit object is longer than 64 KiB")]
    TooLarge,
    /// A byte of zero, where many a reader takes the object to end.
    #[error("the commit object holds a NUL byte")]
    Nul,
    /// A header line that is missing, out of order, repeated or malformed; the text names it.
    #[error("the commit object's {0} line is missing, repeated or malformed")]
    Header(&'static str),
    /// More than [`MAX_PARENTS`].
    #[error("the commit has more than {MAX_PARENTS} parents")]
    TooManyParents,
    /// Object names of both formats in one commit.
    #[error("the commit mixes SHA-1 and SHA-256 object names")]
    MixedFormats,
    /// More than one signature, one that is not the last header, or one under another name than Git's.
    #[error("the commit's signature is not where Git puts it: once, as the last header, as {0}")]
    Signature(&'static str),
}

/// A parsed commit: a claim until [`Commit::verify`] says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    tree: ObjectId,
    parents: Vec<ObjectId>,
    /// Committer's date, Unix time in seconds.
    time: u64,
    signature: Option<Vec<u8>>,
    signed: Vec<u8>,
}

impl Commit {
    /// Parses the object's contents (without the `commit <length>` header).
    ///
    /// The signature's own bytes are signed by nobody, and yet they are part of the object's name. So there is one place for them, and
    /// [`SshSig::parse`](crate::sshsig::SshSig::parse) takes one spelling: else whoever serves the repository could give a signed
    /// commit any number of names, and the commits that follow it under its own name would descend from none of these.
    ///
    /// # Errors
    /// [`CommitError`] for anything but one plain commit with at most one signature.
    // untrusted: commit
    pub fn parse(raw: &[u8]) -> Result<Self, CommitError> {
        if raw.len() > MAX_SIZE {
            return Err(CommitError::TooLarge);
        }
        // Git's own reader of messages stops at it.
        if raw.contains(&0) {
            return Err(CommitError::Nul);
        }
        let blank = raw.windows(2).position(|two| two == b"\n\n");
        let (headers, message) = raw.split_at(blank.ok_or(CommitError::Header("empty"))? + 1);
        let mut rest = Headers(headers);
        let tree = rest
            .value("tree")
            .and_then(object)
            .ok_or(CommitError::Header("tree"))?;
        let mut parents = Vec::new();
        while let Some(parent) = rest.value("parent") {
            parents.push(object(parent).ok_or(CommitError::Header("parent"))?);
            if parents.len() > MAX_PARENTS {
                return Err(CommitError::TooManyParents);
            }
        }
        let format = core::mem::discriminant(&tree);
        if parents.iter().any(|p| core::mem::discriminant(p) != format) {
            return Err(CommitError::MixedFormats);
        }
        rest.value("author")
            .and_then(seconds)
            .ok_or(CommitError::Header("author"))?;
        let time = rest
            .value("committer")
            .and_then(seconds)
            .ok_or(CommitError::Header("committer"))?;
        let (others, signature) = rest.split_signature(match tree {
            ObjectId::Sha1(_) => "gpgsig",
            ObjectId::Sha256(_) => "gpgsig-sha256",
        })?;
        let top = headers.len() - rest.0.len();
        Ok(Self {
            tree,
            parents,
            time,
            signature,
            signed: [&headers[..top], others, message].concat(),
        })
    }

    /// Its tree.
    #[must_use]
    pub fn tree(&self) -> ObjectId {
        self.tree
    }

    /// Its parents, in order.
    #[must_use]
    pub fn parents(&self) -> &[ObjectId] {
        &self.parents
    }

    /// The committer's date, Unix time in seconds.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The armored signature in it, a claim like everything else.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// What its signature is over: the object without its signature header. Approvals are over the same bytes.
    #[must_use]
    pub fn signed_bytes(&self) -> &[u8] {
        &self.signed
    }

    /// Whether enough `config` keys of `root` signed it: the commit's own signature (namespace `git`) and `approvals` (armored SSHSIG
    /// over [`Commit::signed_bytes`], namespace `approval@racklet.dev`).
    ///
    /// # Errors
    /// [`Unauthorised`] with the reason for each signature that did not count.
    pub fn verify(
        &self,
        root: &Verified<TrustRoot>,
        approvals: &[impl AsRef<[u8]>],
    ) -> Result<(), Unauthorised> {
        let own: Vec<&[u8]> = self.signature().into_iter().collect();
        let config = root.role(Role::Config);
        let by_commit =
            root.count_signatures(Role::Config, namespace::GIT, &self.signed, &own, &[]);
        // A commit that carries no good signature of its own is never accepted: Git's tools must agree with us.
        if by_commit.signers.is_empty() || config.threshold == 1 {
            return by_commit.decide(config.threshold).map(drop);
        }
        let approved = root.count_signatures(
            Role::Config,
            namespace::APPROVAL,
            &self.signed,
            approvals,
            &[],
        );
        by_commit.and(approved).decide(config.threshold).map(drop)
    }
}

/// Header lines that were not read yet, each with its line end.
#[derive(Clone, Copy)]
struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// The value of the next line, when that is called `label`.
    fn value(&mut self, label: &str) -> Option<&'a [u8]> {
        let (line, rest) = self
            .0
            .split_at(self.0.iter().position(|b| *b == b'\n')? + 1);
        let value = line.strip_prefix(label.as_bytes())?.strip_prefix(b" ")?;
        self.0 = rest;
        value.strip_suffix(b"\n")
    }

    /// Divides what follows the committer: the lines that are signed (an encoding, tags that were merged, what other tools
    /// add), and the armor of the signature, which is called `label` and comes last.
    fn split_signature(
        self,
        label: &'static str,
    ) -> Result<(&'a [u8], Option<Vec<u8>>), CommitError> {
        let mut at = 0;
        let mut signature = None;
        for line in self.0.split_inclusive(|byte| *byte == b'\n') {
            match line {
                [b' ', ..] if at == 0 => return Err(CommitError::Header("committer")),
                [b' ', ..] => {}
                _ if signature.is_some() => return Err(CommitError::Signature(label)),
                _ if line.starts_with(b"gpgsig") => signature = Some(at),
                _ => {
                    // Git takes the first of these and stops; another reader might take the last.
                    for once in ["tree", "parent", "author", "committer"] {
                        if line
                            .strip_prefix(once.as_bytes())
                            .is_some_and(|l| l.starts_with(b" "))
                        {
                            return Err(CommitError::Header(once));
                        }
                    }
                }
            }
            at += line.len();
        }
        let Some(at) = signature else {
            return Ok((self.0, None));
        };
        let (others, signature) = self.0.split_at(at);
        let lines = signature
            .strip_prefix(label.as_bytes())
            .ok_or(CommitError::Signature(label))?;
        // Each line begins with one space: the first behind its label, the others as continuations.
        let armored = lines
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| line.strip_prefix(b" "));
        let armored: Option<Vec<&[u8]>> = armored.collect();
        Ok((
            others,
            Some(armored.ok_or(CommitError::Signature(label))?.concat()),
        ))
    }
}

fn object(digits: &[u8]) -> Option<ObjectId> {
    ObjectId::from_hex(core::str::from_utf8(digits).ok()?)
}

/// The date of `NAME <MAIL> SECONDS ZONE`, each part as `git fsck --strict` wants it: two readers that look for the date from
/// either end, or stop at what is no digit, find the same.
fn seconds(identity: &[u8]) -> Option<u64> {
    let bracket = |byte: &u8| matches!(byte, b'<' | b'>');
    let (name, rest) = identity.split_at(identity.iter().position(bracket)?);
    let rest = rest.strip_prefix(b"<")?;
    let rest = rest[rest.iter().position(bracket)?..].strip_prefix(b"> ")?;
    let (seconds, zone) = core::str::from_utf8(rest).ok()?.split_once(' ')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let zone = zone.strip_prefix(['+', '-'])?;
    if !name.ends_with(b" ") || !digits(zone) || zone.len() != 4 {
        return None;
    }
    // Without leading zeros, and without the sign that `parse` would take.
    if !digits(seconds) || (seconds.starts_with('0') && seconds != "0") {
        return None;
    }
    seconds.parse().ok().filter(|time| *time < MAX_TIME)
}

#[cfg(test)]
mod against_git;
#[cfg(test)]
mod tests;
