// SPDX-License-Identifier: Apache-2.0
//! Who may ask a tray over the network.
//!
//! ```text
//!   config key ──signs──> pass: "this short-lived key may ask the trays of this rack from … until …"
//!                                 │
//!   short-lived key ──signs──> request: tray, its identity key, this TLS connection, method, target, body
//! ```
//!
//! A person's key, which may want a passphrase or a touch, signs once per command. What is sent proves nothing a second time: the
//! short-lived key never leaves the command's memory, and each request is bound to a value that only the two ends of
//! one TLS connection have (RFC 8446, 7.5). So a tray need not remember what it has seen, and a machine in the middle,
//! which has a connection of its own to either side, has nothing that it could pass on.

use racklet_trust::key::KeyError;
use racklet_trust::sshsig::{SignatureError, SshSig};
use racklet_trust::{Digest, PublicKey, Role, TrustRoot, namespace};
use std::fmt::Write as _;

/// The pass: the short-lived key, from when and until when it may ask (Unix seconds), and the signature of a config key,
/// each separated by one space. Keys and signatures are base64 without line breaks.
pub const PASS_HEADER: &str = "racklet-pass";
/// The short-lived key's signature: an armored SSHSIG without its first and last line and without line breaks.
pub const SIGNATURE_HEADER: &str = "racklet-signature";
/// How far the two clocks may be apart, in seconds.
pub const MAX_SKEW: u64 = 300;
/// The longest that a pass may last, in seconds: whoever follows a log for a working day is asked once. A key that loses its
/// role ends its passes at once, because the role is looked up for every request.
pub const MAX_PASS: u64 = 12 * 3600;
/// The label of the TLS exporter (RFC 5705, 4: labels for private use begin like this); its context is empty.
pub const CHANNEL_LABEL: &[u8] = b"EXPERIMENTAL racklet-api/v2";

/// What the exporter gives to both ends of one connection and to nobody else.
pub type Channel = [u8; 32];

/// A request as both sides see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The rack's id, 32 hex digits.
    pub rack: &'a str,
    /// The tray's name: what is signed for one tray is nothing to another.
    pub tray: &'a str,
    /// The tray's identity key: nor is it anything to another machine of that name.
    pub identity: &'a PublicKey,
    /// The connection it comes by.
    pub channel: &'a Channel,
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path and query exactly as sent.
    pub target: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// The bytes that the short-lived key signs.
#[must_use]
pub fn canonical_request(request: &Request<'_>) -> Vec<u8> {
    let Request {
        rack,
        tray,
        identity,
        channel,
        method,
        target,
        body,
    } = request;
    let body = Digest::of(body);
    let channel = channel.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!(
        "racklet-api/v2\n{rack}\n{tray}\n{identity}\n{channel}\n{method}\n{target}\nsha256:{body}\n"
    )
    .into_bytes()
}

/// What a config key signs: that a key may ask for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The short-lived key.
    pub key: PublicKey,
    /// From when, Unix seconds.
    pub from: u64,
    /// Until when, at most [`MAX_PASS`] later.
    pub until: u64,
}

impl Pass {
    /// The bytes that are signed, for one rack.
    #[must_use]
    pub fn canonical(&self, rack: &str) -> Vec<u8> {
        let Self { key, from, until } = self;
        format!("racklet-api-pass/v1\n{rack}\n{key}\n{from}\n{until}\n").into_bytes()
    }

    /// The header's value, with the armored signature over [`Pass::canonical`].
    #[must_use]
    pub fn to_header(&self, armored: &str) -> String {
        let key = self.key.to_string();
        let key = key.split(' ').nth(1).unwrap_or_default();
        let signature = signature_to_header(armored);
        format!("{key} {} {} {signature}", self.from, self.until)
    }

    /// The pass and its signature, of which nothing is verified yet.
    fn parse(header: &str) -> Option<(Self, &str)> {
        let mut fields = header.split(' ');
        let (key, from, until, signature) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        if fields.next().is_some() {
            return None;
        }
        let pass = Self {
            key: format!("ssh-ed25519 {key}").parse().ok()?,
            from: from.parse().ok()?,
            until: until.parse().ok()?,
        };
        Some((pass, signature))
    }

    fn good_at(&self, now: u64) -> Result<(), Denied> {
        match self.until.checked_sub(self.from) {
            Some(length) if length <= MAX_PASS => {}
            _ => return Err(Denied::Pass),
        }
        let early = self.from.saturating_sub(now);
        let late = now.saturating_sub(self.until);
        if early > MAX_SKEW {
            return Err(Denied::Early(early));
        }
        if late > MAX_SKEW {
            return Err(Denied::Late(late));
        }
        Ok(())
    }
}

/// An Ed25519 public key of these 32 bytes.
///
/// # Errors
/// [`KeyError`] when they are no good key.
pub fn ed25519(material: &[u8]) -> Result<PublicKey, KeyError> {
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend_from_slice(material);
    PublicKey::from_blob(&blob)
}

/// An armored SSHSIG as a header value.
#[must_use]
pub fn signature_to_header(armored: &str) -> String {
    armored
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("-----"))
        .collect()
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No pass or no signature.
    #[error(
        "the request is not signed as this tray wants it: ask with a `racklet` of the tray's version"
    )]
    Unsigned,
    /// A pass that is none, or lasts too long.
    #[error("the pass is not well-formed, or lasts longer than {MAX_PASS} s")]
    Pass,
    /// The pass is not good yet.
    #[error(
        "the pass is good from {0} s after this tray's clock, {MAX_SKEW} s are allowed: check both clocks"
    )]
    Early(u64),
    /// The pass is not good any more.
    #[error(
        "the pass ended {0} s before this tray's clock, {MAX_SKEW} s are allowed: ask again, or check both clocks"
    )]
    Late(u64),
    /// A signature is no good.
    #[error("the signature of the {of} does not hold: {why}")]
    Signature {
        /// Pass or request.
        of: &'static str,
        /// What is wrong with it.
        why: SignatureError,
    },
    /// Good, but the key may not.
    #[error("key {0} is not a config key of this rack")]
    Key(String),
}

fn holds(of: &'static str, signature: &str, message: &[u8]) -> Result<PublicKey, Denied> {
    SshSig::parse_line(signature)
        .and_then(|parsed| parsed.verify(namespace::API, message).cloned())
        .map_err(|why| Denied::Signature { of, why })
}

/// Whether one of the config keys of `root` lets `request` in at `now` (Unix seconds), by the values of the two headers; returns
/// which key.
///
/// One key is enough whatever the role's threshold: the API reads and nudges, it changes nothing that the repository says.
///
/// # Errors
/// [`Denied`] with the reason.
// untrusted: api_access
pub fn authorise(
    request: &Request<'_>,
    pass: &str,
    signature: &str,
    now: u64,
    root: &TrustRoot,
) -> Result<PublicKey, Denied> {
    let (pass, signed) = Pass::parse(pass).ok_or(Denied::Pass)?;
    pass.good_at(now)?;
    let person = holds("pass", signed, &pass.canonical(request.rack))?;
    if !root.role(Role::Config).keys.contains(&person) {
        return Err(Denied::Key(person.fingerprint()));
    }
    let asker = holds("request", signature, &canonical_request(request))?;
    if asker != pass.key {
        return Err(Denied::Signature {
            of: "request",
            why: SignatureError::Mismatch,
        });
    }
    Ok(person)
}

#[cfg(test)]
mod tests;
