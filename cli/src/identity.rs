// SPDX-License-Identifier: Apache-2.0
//! The trays' own keys: Ed25519 as every tool reads it (RFC 8410, version 1, PEM), kept with the user and never in the
//! rack repository.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use racklet_trust::PublicKey;
use ring::rand::SecureRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

/// `SEQUENCE { INTEGER 0, SEQUENCE { OID 1.3.101.112 }, OCTET STRING { OCTET STRING seed } }`.
const PREFIX: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Where a tray's private key is.
pub(crate) fn path(rack: &str, tray: &str) -> anyhow::Result<PathBuf> {
    Ok(crate::data::home()?.join(rack).join(format!("{tray}.key")))
}

/// Makes a tray's key, readable by its owner alone. An existing one is kept: it may be in an image.
pub(crate) fn make(rack: &str, tray: &str) -> anyhow::Result<(PublicKey, PathBuf)> {
    let path = path(rack, tray)?;
    if !path.exists() {
        let folder = path.parent().context("a key has a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("write {}", path.display()))?;
        file.write_all(to_pem(&random()?).as_bytes())
            .and_then(|()| file.sync_all())
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok((public_of(&path)?, path))
}

/// The public half of the key in a file.
pub(crate) fn public_of(path: &Path) -> anyhow::Result<PublicKey> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    public(&text)
        .with_context(|| format!("{} is not an Ed25519 key in PEM (PKCS#8)", path.display()))
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes)
}

/// A private key out of its seed.
pub(crate) fn to_pem(seed: &[u8; 32]) -> String {
    let der = [PREFIX.as_slice(), seed].concat();
    format!("{BEGIN}\n{}\n{END}\n", base64(&der))
}

fn public(pem: &str) -> anyhow::Result<PublicKey> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut blob = Vec::new();
    for part in [b"ssh-ed25519".as_slice(), pair.public_key().as_ref()] {
        blob.extend(u32::try_from(part.len()).context("short")?.to_be_bytes());
        blob.extend(part);
    }
    Ok(PublicKey::from_blob(&blob)?)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert!(bytes.len().is_multiple_of(3), "48 bytes need no padding");
    bytes
        .chunks(3)
        .flat_map(|three| {
            let n = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
            [18, 12, 6, 0].map(|shift| char::from(DIGITS[(n >> shift & 63) as usize]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.3, and the public key of section 10.1.
    #[test]
    fn the_example_of_the_standard_comes_out() {
        let seed = [
            0xD4, 0xEE, 0x72, 0xDB, 0xF9, 0x13, 0x58, 0x4A, 0xD5, 0xB6, 0xD8, 0xF1, 0xF7, 0x69,
            0xF8, 0xAD, 0x3A, 0xFE, 0x7C, 0x28, 0xCB, 0xF1, 0xD4, 0xFB, 0xE0, 0x97, 0xA8, 0x8F,
            0x44, 0x75, 0x58, 0x42,
        ];
        let pem = to_pem(&seed);
        assert!(
            pem.contains("MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"),
            "{pem}"
        );
        assert_eq!(
            public(&pem).unwrap().material()[..4],
            [0x19, 0xBF, 0x44, 0x09]
        );
    }
}
