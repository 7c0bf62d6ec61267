// SPDX-License-Identifier: Apache-2.0
//! Keys from small numbers, for this crate's tests.

use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::{
    Verified,
    digest::{Hex, RackId},
    key::PublicKey,
    root::{RoleKeys, Roles, TrustRoot},
    sshsig, wire,
};

/// The key type of a FIDO token.
const TOKEN: &[u8] = b"sk-ssh-ed25519@openssh.com";

pub(crate) struct Keypair(SigningKey);

impl Keypair {
    pub(crate) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    pub(crate) fn public(&self) -> PublicKey {
        Self::key(&[b"ssh-ed25519", self.0.verifying_key().as_bytes()])
    }

    /// The same key material, as if it were in a FIDO token.
    pub(crate) fn token(&self) -> PublicKey {
        Self::key(&[TOKEN, self.0.verifying_key().as_bytes(), b"ssh:"])
    }

    fn key(fields: &[&[u8]]) -> PublicKey {
        let mut blob = Vec::new();
        for field in fields {
            wire::put_string(&mut blob, field);
        }
        PublicKey::from_blob(&blob).unwrap()
    }

    pub(crate) fn sign(&self, namespace: &str, message: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&sshsig::to_be_signed(namespace, message));
        sshsig::armor(&self.public(), namespace, &signature.to_bytes()).into_bytes()
    }

    /// What a FIDO token does with its flags byte set to `flags`.
    pub(crate) fn sign_as_token(&self, namespace: &str, message: &[u8], flags: u8) -> Vec<u8> {
        let mut outer = Sha256::digest("ssh:").to_vec();
        outer.push(flags);
        outer.extend_from_slice(&9u32.to_be_bytes());
        outer.extend_from_slice(&Sha256::digest(sshsig::to_be_signed(namespace, message)));
        let mut inner = Vec::new();
        wire::put_string(&mut inner, TOKEN);
        wire::put_string(&mut inner, &self.0.sign(&outer).to_bytes());
        inner.push(flags);
        inner.extend_from_slice(&9u32.to_be_bytes());
        let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
        for field in [
            &*self.token().to_blob(),
            namespace.as_bytes(),
            b"",
            b"sha512",
            &inner,
        ] {
            wire::put_string(&mut blob, field);
        }
        let base64 = Base64::encode_string(&blob);
        let mut armored = b"-----BEGIN SSH SIGNATURE-----\n".to_vec();
        for line in base64.as_bytes().chunks(70) {
            armored.extend_from_slice(line);
            armored.push(b'\n');
        }
        armored.extend_from_slice(b"-----END SSH SIGNATURE-----\n");
        armored
    }
}

pub(crate) const RACK: RackId = Hex([7; 16]);

/// The same keys and threshold for every role.
pub(crate) fn roles(threshold: u8, seeds: &[u8]) -> Roles {
    let keys = RoleKeys {
        threshold,
        keys: seeds
            .iter()
            .map(|seed| Keypair::new(*seed).public())
            .collect(),
    };
    Roles {
        root: keys.clone(),
        config: keys.clone(),
        payload: keys.clone(),
        firmware: keys,
    }
}

pub(crate) fn trust_root(version: u64, roles: Roles) -> Verified<TrustRoot> {
    let root = TrustRoot::new(RACK, version, roles).unwrap();
    Verified::baked(&root.to_canonical()).unwrap()
}

/// A commit, signed as Git does it.
pub(crate) fn signed_commit(unsigned: &str, pair: &Keypair, header: &str) -> Vec<u8> {
    with_signature(unsigned, &pair.sign("git", unsigned.as_bytes()), header)
}

/// Puts a signature where Git puts it: behind all other headers.
pub(crate) fn with_signature(unsigned: &str, armored: &[u8], header: &str) -> Vec<u8> {
    let signature = core::str::from_utf8(armored).unwrap().trim_end();
    let (headers, message) = unsigned.split_once("\n\n").unwrap();
    let signature = signature.replace('\n', "\n ");
    alloc::format!("{headers}\n{header} {signature}\n\n{message}").into_bytes()
}
