// SPDX-License-Identifier: Apache-2.0
//! SSHSIG: the signatures of `ssh-keygen -Y sign` and of Git's `gpg.format=ssh`.
//!
//! Source: OpenSSH's PROTOCOL.sshsig and, for FIDO keys, PROTOCOL.u2f. Only the armored form is read, and only in the spelling that
//! both tools write: inside a commit, these bytes are signed by nobody and yet part of the commit's name.
//! It deliberately knows no `allowed_signers` file; who may sign is the trust root's business.

use alloc::{string::String, vec::Vec};

use base64ct::{Base64, Encoding};
use ed25519_dalek::Signature;
use sha2::{Digest as _, Sha256, Sha512};

use crate::{
    key::{KeyError, PublicKey},
    wire::{self, Reader, Truncated},
};

/// The largest armored signature that is read, in bytes. A real one is about 300, from a FIDO token about 400.
pub const MAX_ARMORED: usize = 4096;

const MAGIC: &[u8; 6] = b"SSHSIG";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
/// Characters of base64 in a line of the armor; the last has what is left.
const LINE: usize = 70;
const END: &str = "-----END SSH SIGNATURE-----";
/// FIDO flag: somebody touched the token.
const USER_PRESENT: u8 = 1;

/// Why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not one armored SSHSIG version 1, or with something behind it.
    #[error("not an SSH signature (as `ssh-keygen -Y sign` writes it)")]
    Malformed,
    /// A signature, but not spelt as both tools write it: other line lengths or line ends, or white space around it.
    #[error(
        "not spelt as `ssh-keygen -Y sign` writes it (lines of {LINE}, nothing around them); sign again"
    )]
    Spelling,
    /// The key in it is not acceptable.
    #[error("its key is refused: {0}")]
    Key(KeyError),
    /// A message digest other than SHA-256 or SHA-512.
    #[error("digest {0:?} is not accepted; use sha512 or sha256")]
    Hash(String),
    /// Made for another purpose.
    #[error("made for namespace {found:?}, not {expected:?}")]
    Namespace {
        /// What the signature says.
        found: String,
        /// What it is wanted for.
        expected: String,
    },
    /// The FIDO token says that nobody touched it.
    #[error("the security key was not touched")]
    NotTouched,
    /// The mathematics does not hold: another message or another key.
    #[error("does not match the signed bytes")]
    Mismatch,
}

impl From<Truncated> for SignatureError {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// A parsed signature: a claim until [`SshSig::verify`] says otherwise.
#[derive(Debug, Clone)]
pub struct SshSig {
    key: PublicKey,
    namespace: String,
    hash: Hash,
    signature: Signature,
    /// Flags and counter of a FIDO token.
    token: Option<(u8, u32)>,
}

impl SshSig {
    /// Parses the armored form.
    ///
    /// # Errors
    /// [`SignatureError`] when it is anything but one well-formed signature of an accepted type.
    // untrusted: sshsig
    pub fn parse(armored: &[u8]) -> Result<Self, SignatureError> {
        if armored.len() > MAX_ARMORED {
            return Err(SignatureError::Malformed);
        }
        let armored = core::str::from_utf8(armored).map_err(|_| SignatureError::Malformed)?;
        let body = armored
            .trim_ascii_end()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END))
            .ok_or(SignatureError::Malformed)?;
        let base64: String = body.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        let signature = Self::parse_line(&base64)?;
        match signature.to_armored() == armored {
            true => Ok(signature),
            false => Err(SignatureError::Spelling),
        }
    }

    /// Parses the armor's base64 alone, in one line: what fits into a header of HTTP.
    ///
    /// # Errors
    /// As [`SshSig::parse`].
    pub fn parse_line(base64: &str) -> Result<Self, SignatureError> {
        if base64.len() > MAX_ARMORED {
            return Err(SignatureError::Malformed);
        }
        let blob = Base64::decode_vec(base64).map_err(|_| SignatureError::Malformed)?;
        Self::from_blob(&blob)
    }

    /// The one spelling of this signature, which is the only one that [`SshSig::parse`] takes.
    #[must_use]
    pub fn to_armored(&self) -> String {
        let mut armored = String::from(BEGIN);
        for (index, c) in Base64::encode_string(&self.to_blob()).chars().enumerate() {
            if index % LINE == 0 {
                armored.push('\n');
            }
            armored.push(c);
        }
        armored.push('\n');
        armored.push_str(END);
        armored.push('\n');
        armored
    }

    fn to_blob(&self) -> Vec<u8> {
        let mut inner = Vec::with_capacity(128);
        wire::put_string(&mut inner, self.key.algorithm().as_bytes());
        wire::put_string(&mut inner, &self.signature.to_bytes());
        if let Some((flags, counter)) = self.token {
            inner.push(flags);
            inner.extend_from_slice(&counter.to_be_bytes());
        }
        let mut blob = Vec::with_capacity(256);
        blob.extend_from_slice(MAGIC);
        blob.extend_from_slice(&1u32.to_be_bytes());
        for field in [
            &*self.key.to_blob(),
            self.namespace.as_bytes(),
            b"",
            self.hash.name().as_bytes(),
            &inner,
        ] {
            wire::put_string(&mut blob, field);
        }
        blob
    }

    fn from_blob(blob: &[u8]) -> Result<Self, SignatureError> {
        let mut reader = Reader::new(blob);
        if reader.bytes(MAGIC.len())? != MAGIC || reader.u32()? != 1 {
            return Err(SignatureError::Malformed);
        }
        let key = PublicKey::from_blob(reader.string()?).map_err(SignatureError::Key)?;
        let namespace = text(reader.string()?)?;
        let reserved = reader.string()?;
        let hash = match reader.string()? {
            b"sha256" => Hash::Sha256,
            b"sha512" => Hash::Sha512,
            other => {
                let name = text(other)?.chars().take(32).collect();
                return Err(SignatureError::Hash(name));
            }
        };
        let mut signature = Reader::new(reader.string()?);
        if !reader.is_empty() || namespace.is_empty() || !reserved.is_empty() {
            return Err(SignatureError::Malformed);
        }
        if signature.string()? != key.algorithm().as_bytes() {
            return Err(SignatureError::Malformed);
        }
        let bytes: [u8; 64] = signature
            .string()?
            .try_into()
            .map_err(|_| SignatureError::Malformed)?;
        let token = match key.application() {
            Some(_) => Some((signature.array::<1>()?[0], signature.u32()?)),
            None => None,
        };
        if !signature.is_empty() {
            return Err(SignatureError::Malformed);
        }
        Ok(Self {
            key,
            namespace: namespace.into(),
            hash,
            signature: Signature::from_bytes(&bytes),
            token,
        })
    }

    /// Checks the signature over `message` for the purpose `namespace`, and says whose it is.
    ///
    /// # Errors
    /// [`SignatureError`] with the reason; the key is then nobody's.
    pub fn verify(&self, namespace: &str, message: &[u8]) -> Result<&PublicKey, SignatureError> {
        if self.namespace != namespace {
            return Err(SignatureError::Namespace {
                found: self.namespace.chars().take(64).collect(),
                expected: namespace.into(),
            });
        }
        let mut signed = signed_data(namespace, self.hash, message);
        if let (Some((flags, counter)), Some(application)) = (self.token, self.key.application()) {
            if flags & USER_PRESENT == 0 {
                return Err(SignatureError::NotTouched);
            }
            let mut outer = Vec::with_capacity(69);
            outer.extend_from_slice(&Sha256::digest(application));
            outer.push(flags);
            outer.extend_from_slice(&counter.to_be_bytes());
            outer.extend_from_slice(&Sha256::digest(&signed));
            signed = outer;
        }
        // `verify_strict` refuses small-order points and non-canonical signatures, so that a signature has one spelling.
        self.key
            .point()
            .verify_strict(&signed, &self.signature)
            .map_err(|_| SignatureError::Mismatch)?;
        Ok(&self.key)
    }

    /// Whose signature it claims to be. Not verified: for messages and for choosing a key.
    #[must_use]
    pub fn claimed_key(&self) -> &PublicKey {
        &self.key
    }
}

/// The bytes that an in-process signer signs with Ed25519 for an SSHSIG with SHA-512 over `message`.
#[must_use]
pub fn to_be_signed(namespace: &str, message: &[u8]) -> Vec<u8> {
    signed_data(namespace, Hash::Sha512, message)
}

/// Wraps a raw Ed25519 signature over [`to_be_signed`] as an armored SSHSIG of `key`.
#[must_use]
pub fn armor(key: &PublicKey, namespace: &str, signature: &[u8; 64]) -> String {
    let signature = SshSig {
        key: key.clone(),
        namespace: namespace.into(),
        hash: Hash::Sha512,
        signature: Signature::from_bytes(signature),
        token: None,
    };
    signature.to_armored()
}

fn signed_data(namespace: &str, hash: Hash, message: &[u8]) -> Vec<u8> {
    let mut signed = Vec::with_capacity(128);
    signed.extend_from_slice(MAGIC);
    for field in [
        namespace.as_bytes(),
        b"",
        hash.name().as_bytes(),
        &hash.digest(message),
    ] {
        wire::put_string(&mut signed, field);
    }
    signed
}

fn text(bytes: &[u8]) -> Result<&str, SignatureError> {
    core::str::from_utf8(bytes).map_err(|_| SignatureError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Keypair;
    use proptest::prelude::*;
    use std::{fs, process::Command};

    const NAMESPACE: &str = "manifest@racklet.dev";

    #[test]
    fn a_signature_of_the_real_ssh_keygen_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let message = folder.path().join("message");
        fs::write(&message, "hello").unwrap();
        let keygen = |arguments: &[&str]| {
            let status = Command::new("ssh-keygen").args(arguments).output().unwrap();
            assert!(status.status.success(), "{status:?}");
        };
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
        for hash in ["sha256", "sha512"] {
            let signature = folder.path().join("message.sig");
            let _ = fs::remove_file(&signature);
            let option = alloc::format!("hashalg={hash}");
            keygen(&[
                "-Y",
                "sign",
                "-q",
                "-O",
                &option,
                "-n",
                NAMESPACE,
                "-f",
                key.to_str().unwrap(),
                message.to_str().unwrap(),
            ]);
            let parsed = SshSig::parse(&fs::read(&signature).unwrap()).unwrap();
            let line = fs::read_to_string(key.with_extension("pub")).unwrap();
            assert_eq!(
                parsed.verify(NAMESPACE, b"hello"),
                Ok(&line.parse().unwrap())
            );
            assert_eq!(
                parsed.verify(NAMESPACE, b"hellO"),
                Err(SignatureError::Mismatch)
            );
        }
    }

    #[test]
    fn the_real_ssh_keygen_accepts_what_we_armor() {
        let folder = tempfile::tempdir().unwrap();
        let pair = Keypair::new(7);
        let token = pair.token();
        let signers = folder.path().join("signers");
        fs::write(
            &signers,
            alloc::format!("me {}\nme {token}\n", pair.public()),
        )
        .unwrap();
        let signature = folder.path().join("sig");
        let message = folder.path().join("message");
        fs::write(&message, "hello").unwrap();
        for armored in [
            pair.sign(NAMESPACE, b"hello"),
            pair.sign_as_token(NAMESPACE, b"hello", 1),
        ] {
            fs::write(&signature, armored).unwrap();
            let output = Command::new("ssh-keygen")
                .args(["-Y", "verify", "-I", "me", "-n", NAMESPACE, "-f"])
                .arg(&signers)
                .arg("-s")
                .arg(&signature)
                .stdin(fs::File::open(&message).unwrap())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let pair = Keypair::new(1);
        for good in [
            pair.sign(NAMESPACE, b"hello"),
            pair.sign_as_token(NAMESPACE, b"hello", 1),
        ] {
            let text = core::str::from_utf8(&good).unwrap();
            assert_eq!(SshSig::parse(&good).unwrap().to_armored(), text);
            let (first, rest) = text.split_at(text.find('\n').unwrap() + 1 + LINE);
            for other in [
                text.replace('\n', "\r\n"),
                alloc::format!("{text}\n"),
                text.trim_end().into(),
                alloc::format!("{first}{}", rest.replacen('\n', "", 1)),
                alloc::format!("{first}\n{rest}"),
            ] {
                let refused = SshSig::parse(other.as_bytes()).unwrap_err();
                assert_eq!(refused, SignatureError::Spelling, "{other}");
            }
        }
    }

    #[test]
    fn a_signature_for_another_purpose_does_not_count() {
        let signature = SshSig::parse(&Keypair::new(1).sign("git", b"hello")).unwrap();
        assert!(matches!(
            signature.verify(NAMESPACE, b"hello"),
            Err(SignatureError::Namespace { .. })
        ));
    }

    #[test]
    fn a_touched_token_counts_and_an_untouched_one_does_not() {
        let pair = Keypair::new(3);
        let good = SshSig::parse(&pair.sign_as_token(NAMESPACE, b"hello", 1)).unwrap();
        assert!(good.verify(NAMESPACE, b"hello").is_ok());
        let untouched = SshSig::parse(&pair.sign_as_token(NAMESPACE, b"hello", 0)).unwrap();
        assert_eq!(
            untouched.verify(NAMESPACE, b"hello"),
            Err(SignatureError::NotTouched)
        );
    }

    #[test]
    fn two_signatures_in_one_armor_are_refused() {
        let one = Keypair::new(1).sign(NAMESPACE, b"hello");
        let two = [one.clone(), one].concat();
        assert_eq!(SshSig::parse(&two).unwrap_err(), SignatureError::Malformed);
    }

    #[test]
    fn no_byte_of_the_blob_is_without_meaning() {
        let pair = Keypair::new(1);
        for armored in [
            pair.sign(NAMESPACE, b"hello"),
            pair.sign_as_token(NAMESPACE, b"hello", 1),
        ] {
            let blob = SshSig::parse(&armored).unwrap().to_blob();
            let holds = |blob: &[u8]| {
                SshSig::from_blob(blob).is_ok_and(|s| s.verify(NAMESPACE, b"hello").is_ok())
            };
            assert!(holds(&blob));
            for at in 0..=blob.len() {
                for byte in [0, 1, 2, 4, 0x80, 0xff] {
                    let mut longer = blob.clone();
                    longer.insert(at, byte);
                    assert!(!holds(&longer), "{byte} added at {at}");
                    if let Some(old) = blob.get(at) {
                        let mut changed = blob.clone();
                        changed[at] ^= byte;
                        assert!(byte == 0 || !holds(&changed), "{old} ^ {byte} at {at}");
                    }
                }
                if at < blob.len() {
                    let mut shorter = blob.clone();
                    shorter.remove(at);
                    assert!(!holds(&shorter), "{at} removed");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_changed_byte_of_a_signature_is_accepted(at in 0usize..290, flip in 1u8..) {
            let mut armored = Keypair::new(1).sign(NAMESPACE, b"hello");
            let at = at % armored.len();
            armored[at] ^= flip;
            let outcome = SshSig::parse(&armored).map(|s| s.verify(NAMESPACE, b"hello").is_ok());
            prop_assert!(!outcome.unwrap_or(false));
        }

        #[test]
        fn any_bytes_are_refused_or_read_back(bytes: Vec<u8>) {
            let _ = SshSig::parse(&bytes);
            if let Ok(signature) = SshSig::from_blob(&bytes) {
                prop_assert_eq!(signature.to_blob(), bytes);
            }
        }
    }
}
