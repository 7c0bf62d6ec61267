// SPDX-License-Identifier: Apache-2.0
//! Git commits: the few header lines that decide about trust, and the signature over them.
//!
//! Git signs the object without its signature header (`gpgsig`, in a SHA-256 repository `gpgsig-sha256`), in the namespace `git`.
//! This module reads exactly that and refuses every object that two readers could take for two things. It does not hash objects:
//! that an object has the name it was asked for by is the object store's promise.

use alloc::{string::String, vec::Vec};
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
    /// A header line that is missing, out of order, repeated or malformed; the text names it.
    #[error("the commit object's {0} line is missing, repeated or malformed")]
    Header(&'static str),
    /// More than [`MAX_PARENTS`].
    #[error("the commit has more than {MAX_PARENTS} parents")]
    TooManyParents,
    /// Object names of both formats in one commit.
    #[error("the commit mixes SHA-1 and SHA-256 object names")]
    MixedFormats,
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
    /// # Errors
    /// [`CommitError`] for anything but one plain commit with at most one signature.
    pub fn parse(raw: &[u8]) -> Result<Self, CommitError> {
        if raw.len() > MAX_SIZE {
            return Err(CommitError::TooLarge);
        }
        let mut signed = Vec::with_capacity(raw.len());
        let mut signature: Option<Vec<u8>> = None;
        let mut in_signature = false;
        let mut headers: Vec<&[u8]> = Vec::new();
        let mut rest = raw;
        loop {
            let end = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .ok_or(CommitError::Header("empty"))?;
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if line.is_empty() {
                // The blank line and the message.
                signed.extend_from_slice(rest);
                break;
            }
            if line.contains(&0) {
                return Err(CommitError::Header("NUL in a"));
            }
            if let Some(continued) = line.strip_prefix(b" ") {
                if in_signature && let Some(text) = &mut signature {
                    text.extend_from_slice(continued);
                    text.push(b'\n');
                } else {
                    signed.extend_from_slice(&rest[..=end]);
                }
            } else if line.starts_with(b"gpgsig") {
                let text = line
                    .strip_prefix(b"gpgsig ")
                    .or_else(|| line.strip_prefix(b"gpgsig-sha256 "))
                    .ok_or(CommitError::Header("signature"))?;
                if signature.is_some() {
                    return Err(CommitError::Header("signature"));
                }
                in_signature = true;
                signature = Some([text, b"\n"].concat());
            } else {
                in_signature = false;
                headers.push(line);
                signed.extend_from_slice(&rest[..=end]);
            }
            rest = after;
        }
        let mut headers = headers.into_iter().peekable();
        let tree = headers
            .next()
            .and_then(|line| object(line, b"tree "))
            .ok_or(CommitError::Header("tree"))?;
        let mut parents = Vec::new();
        while let Some(line) = headers.next_if(|line| line.starts_with(b"parent ")) {
            parents.push(object(line, b"parent ").ok_or(CommitError::Header("parent"))?);
            if parents.len() > MAX_PARENTS {
                return Err(CommitError::TooManyParents);
            }
        }
        if !headers.next().is_some_and(|l| l.starts_with(b"author ")) {
            return Err(CommitError::Header("author"));
        }
        let time = headers
            .next()
            .and_then(committer_time)
            .ok_or(CommitError::Header("committer"))?;
        for line in headers {
            for again in ["tree ", "parent ", "author ", "committer "] {
                if line.starts_with(again.as_bytes()) {
                    return Err(CommitError::Header(again.trim_ascii_end()));
                }
            }
        }
        let format = core::mem::discriminant(&tree);
        if parents.iter().any(|p| core::mem::discriminant(p) != format) {
            return Err(CommitError::MixedFormats);
        }
        Ok(Self {
            tree,
            parents,
            time,
            signature,
            signed,
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
        let own: Vec<&[u8]> = self.signature.as_deref().into_iter().collect();
        let config = root.role(Role::Config);
        let by_commit = root.count_signatures(Role::Config, namespace::GIT, &self.signed, &own);
        // A commit that carries no good signature of its own is never accepted: Git's tools must agree with us.
        if by_commit.signers.is_empty() || config.threshold == 1 {
            return by_commit.decide(config.threshold).map(drop);
        }
        let approved =
            root.count_signatures(Role::Config, namespace::APPROVAL, &self.signed, approvals);
        by_commit.and(approved).decide(config.threshold).map(drop)
    }
}

fn object(line: &[u8], label: &[u8]) -> Option<ObjectId> {
    let digits = core::str::from_utf8(line.strip_prefix(label)?).ok()?;
    ObjectId::from_hex(digits)
}

/// `committer NAME <MAIL> SECONDS ZONE`
fn committer_time(line: &[u8]) -> Option<u64> {
    let line = line.strip_prefix(b"committer ")?;
    let after_mail = line.iter().rposition(|byte| *byte == b'>')? + 1;
    let mut words = core::str::from_utf8(&line[after_mail..])
        .ok()?
        .split(' ')
        .filter(|word| !word.is_empty());
    let (seconds, _zone, None) = (words.next()?, words.next()?, words.next()) else {
        return None;
    };
    let digits_only = seconds.bytes().all(|byte| byte.is_ascii_digit());
    String::from(seconds).parse().ok().filter(|_| digits_only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Keypair, roles, signed_commit, trust_root};
    use alloc::format;
    use proptest::prelude::*;

    const TREE: &str = "1111111111111111111111111111111111111111";

    fn unsigned(more_headers: &str) -> String {
        format!(
            "tree {TREE}\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1790000000 +0200\n{more_headers}\nmessage\n"
        )
    }

    const NONE: &[&[u8]] = &[];

    #[test]
    fn a_commit_signed_by_a_config_key_counts_and_any_other_does_not() {
        let root = trust_root(1, roles(1, &[1]));
        let signed = |seed| signed_commit(&unsigned(""), &Keypair::new(seed), "gpgsig");
        let good = Commit::parse(&signed(1)).unwrap();
        assert_eq!((good.time(), good.parents()), (1_790_000_000, &[][..]));
        assert_eq!(good.verify(&root, NONE), Ok(()));
        assert!(
            Commit::parse(&signed(2))
                .unwrap()
                .verify(&root, NONE)
                .is_err()
        );
        let stripped = Commit::parse(unsigned("").as_bytes()).unwrap();
        assert_eq!(stripped.signed_bytes(), good.signed_bytes());
        assert!(stripped.verify(&root, NONE).is_err());
    }

    #[test]
    fn two_signatures_in_one_commit_are_refused() {
        let once = signed_commit(&unsigned(""), &Keypair::new(1), "gpgsig");
        let twice = signed_commit(
            core::str::from_utf8(&once).unwrap(),
            &Keypair::new(2),
            "gpgsig-sha256",
        );
        assert_eq!(Commit::parse(&twice), Err(CommitError::Header("signature")));
    }

    #[test]
    fn a_threshold_of_two_takes_an_approval_by_another_key() {
        let root = trust_root(1, roles(2, &[1, 2]));
        let raw = signed_commit(&unsigned(""), &Keypair::new(1), "gpgsig");
        let commit = Commit::parse(&raw).unwrap();
        let approval = |seed, namespace| Keypair::new(seed).sign(namespace, commit.signed_bytes());
        assert!(commit.verify(&root, NONE).is_err());
        assert!(
            commit
                .verify(&root, &[approval(1, namespace::APPROVAL)])
                .is_err()
        );
        assert!(
            commit
                .verify(&root, &[approval(2, namespace::GIT)])
                .is_err()
        );
        assert_eq!(
            commit.verify(&root, &[approval(2, namespace::APPROVAL)]),
            Ok(())
        );
    }

    #[test]
    fn objects_that_read_two_ways_are_refused() {
        let cases = [
            unsigned(&format!("tree {TREE}\n")),
            unsigned("parent 1111111111111111111111111111111111111111\n"),
            unsigned("").replacen("tree", "Tree", 1),
            unsigned("").replacen(" 1790000000", " -1", 1),
            unsigned("").replacen("author A", "author \0", 1),
            unsigned("gpgsigx y\n"),
            unsigned("").replacen("\n\n", "\n", 1).trim_end().into(),
        ];
        for raw in cases {
            assert!(Commit::parse(raw.as_bytes()).is_err(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(Commit::parse(&bytes).is_err());
        }

        #[test]
        fn no_changed_byte_of_a_signed_commit_is_accepted(at: proptest::sample::Index, flip in 1u8..) {
            let mut raw = signed_commit(&unsigned(""), &Keypair::new(1), "gpgsig");
            let original = Commit::parse(&raw).unwrap();
            let at = at.index(raw.len());
            raw[at] ^= flip;
            if let Ok(commit) = Commit::parse(&raw)
                && commit.verify(&trust_root(1, roles(1, &[1])), NONE).is_ok()
            {
                // Only the armor's white space may differ: what was signed is the same.
                prop_assert_eq!(commit.signed_bytes(), original.signed_bytes());
            }
        }
    }
}
