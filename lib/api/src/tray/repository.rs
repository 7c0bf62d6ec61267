// SPDX-License-Identifier: Apache-2.0
//! Repositories that a tray asks, and how it is let in by each.

use serde::{Deserialize, Serialize};

use super::Secret;

/// The rack repository and how to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// `https://host[:port]/path`; never anything but HTTPS.
    pub url: String,
    /// The branch whose head is the rack's state.
    #[serde(default = "main_branch")]
    pub branch: String,
    /// Where plain files lie beside it (`https://host[:port]/path`), which spare its server work; nothing in them is believed. On the
    /// repository's own server they are asked for as it is, elsewhere as [`Elsewhere`] says.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// PEM certificates to trust instead of the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The name that goes with the token; `git` where none is given, for many servers do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How the token is sent.
    #[serde(default, skip_serializing_if = "Scheme::is_basic")]
    pub scheme: Scheme,
    /// Sent with every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Certificate and key to show to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientCertificate>,
}

/// A repository that is not the rack's own, or not in its own place. What the rack's own server is shown is never shown to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Elsewhere {
    /// As [`Repository::url`]. Without `mirror`, whatever lies below this address is meant as well.
    pub url: String,
    /// It holds what the rack's own repository holds, and is asked where that one does not answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirror: bool,
    /// As [`Repository::plain`].
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// As [`Repository::ca`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// As [`Repository::user`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// As [`Repository::scheme`].
    #[serde(default, skip_serializing_if = "Scheme::is_basic")]
    pub scheme: Scheme,
    /// As [`Repository::token`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// As [`Repository::client`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientCertificate>,
}

/// More of them nobody needs, and each mirror that does not answer costs time.
pub const MAX_REPOSITORIES: usize = 16;

/// How a token is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// As the password of HTTP basic authentication (RFC 7617), which most Git servers want.
    #[default]
    Basic,
    /// As it is (RFC 6750), without a user name.
    Bearer,
}

impl Scheme {
    // As serde asks it.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_basic(&self) -> bool {
        *self == Self::Basic
    }
}

/// How one is let in by a server, and which one is let in by: the parts that every repository has.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// PEM certificates to trust instead of the public roots.
    pub ca: Option<&'a str>,
    /// The name that goes with the token.
    pub user: Option<&'a str>,
    /// How the token is sent.
    pub scheme: Scheme,
    /// Sent with every request.
    pub token: Option<&'a Secret>,
    /// Shown in the TLS handshake.
    pub client: Option<&'a ClientCertificate>,
}

impl Repository {
    /// How one is let in.
    pub fn access(&self) -> Access<'_> {
        Access {
            ca: self.ca.as_deref(),
            user: self.user.as_deref(),
            scheme: self.scheme,
            token: self.token.as_ref(),
            client: self.client.as_ref(),
        }
    }
}

impl Elsewhere {
    /// How one is let in.
    pub fn access(&self) -> Access<'_> {
        Access {
            ca: self.ca.as_deref(),
            user: self.user.as_deref(),
            scheme: self.scheme,
            token: self.token.as_ref(),
            client: self.client.as_ref(),
        }
    }
}

impl Access<'_> {
    /// What could not stand in a request, or would be left out of it without a word.
    pub(super) fn check(&self) -> Result<(), BadAccess> {
        let Some(token) = self.token else {
            return match (self.user, self.scheme) {
                (None, Scheme::Basic) => Ok(()),
                _ => Err(BadAccess::NoToken),
            };
        };
        let plain = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        match (self.scheme, self.user) {
            (Scheme::Bearer, Some(_)) => Err(BadAccess::BearerUser),
            (Scheme::Basic, Some(user)) if !plain(user) || user.contains(':') => {
                Err(BadAccess::User(user.escape_debug().to_string()))
            }
            (Scheme::Bearer, None) if !token.expose().bytes().all(|b| b.is_ascii_graphic()) => {
                Err(BadAccess::Token)
            }
            _ if !plain(token.expose()) => Err(BadAccess::Token),
            _ => Ok(()),
        }
    }
}

fn main_branch() -> String {
    "main".to_owned()
}

/// A TLS client certificate with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCertificate {
    /// The chain, leaf first.
    pub certificate: String,
    /// The private key.
    pub key: Secret,
}

/// Why nobody could be let in so.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAccess {
    #[error("a user name or `bearer` without a token: name the token, too")]
    NoToken,
    #[error("with `bearer` goes no user name")]
    BearerUser,
    #[error("user name `{0}` is empty, or has a colon or control characters")]
    User(String),
    #[error("the token is empty or holds characters that cannot stand in a request")]
    Token,
}
