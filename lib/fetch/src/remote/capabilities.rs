// SPDX-License-Identifier: Apache-2.0
//! The first question to a server: which protocol it speaks, and how it names objects. Redirects are followed here and nowhere else.

use std::io::Read;

use gix_hash::Kind as Format;

use super::{Remote, RemoteError};
use crate::{
    http::{HttpError, Request, Until},
    pkt::{Line, Lines},
    url::HttpsUrl,
};

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const INFO_REFS: &str = "/info/refs?service=git-upload-pack";
const MAX_REDIRECTS: usize = 3;
/// Largest answer that only lists capabilities.
pub(super) const MAX_CAPABILITIES: u64 = 64 * 1024;

/// What a server says of itself, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capabilities {
    pub(super) format: Format,
    /// Whether it leaves out what is asked to be left out (`uploadpack.allowFilter`, which git has off unless told otherwise).
    pub(super) filters: bool,
}

impl Remote {
    pub(super) fn capabilities(&mut self, until: Until) -> Result<Capabilities, RemoteError> {
        for _ in 0..=MAX_REDIRECTS {
            let url = self.url.clone();
            let sent = self.client.send(&Request {
                url: &url,
                suffix: INFO_REFS,
                post: None,
                expected: ADVERTISEMENT,
                limit: MAX_CAPABILITIES,
                until,
            });
            match sent {
                Err(HttpError::Redirect { location, .. }) => {
                    self.url = same_host(&url, &location).ok_or(RemoteError::Redirect(location))?
                }
                other => {
                    let mut lines = Lines::new(other?);
                    let found = read(&mut lines)?;
                    lines.into_inner().finish().map_err(HttpError::from_io)?;
                    return Ok(found);
                }
            }
        }
        Err(RemoteError::Redirect("one address after another".into()))
    }
}

/// The first answer: protocol and capabilities, all of which is a claim.
// untrusted: git_refs
pub(crate) fn read<R: Read>(lines: &mut Lines<R>) -> Result<Capabilities, RemoteError> {
    let mut line = lines.next()?;
    if line.text() == Some("# service=git-upload-pack") {
        if lines.next()? != Line::Flush {
            return Err(RemoteError::Line("no flush behind the service's name"));
        }
        line = lines.next()?;
    }
    if line.text() != Some("version 2") {
        return Err(RemoteError::Version);
    }
    let mut found = Capabilities {
        format: Format::Sha1,
        filters: false,
    };
    loop {
        let line = lines.next()?;
        if line == Line::Flush {
            break;
        }
        let capability = line
            .text()
            .ok_or(RemoteError::Line("a capability is not text"))?;
        match capability.split_once('=') {
            Some(("object-format", "sha1")) => found.format = Format::Sha1,
            Some(("object-format", "sha256")) => found.format = Format::Sha256,
            Some(("object-format", other)) => {
                return Err(RemoteError::Format(other.chars().take(20).collect()));
            }
            Some(("fetch", words)) => found.filters = words.split(' ').any(|it| it == "filter"),
            _ => {}
        }
    }
    Ok(found)
}

/// The address that a redirect of [`INFO_REFS`] leads to, where it stays on the same server.
fn same_host(url: &HttpsUrl, location: &str) -> Option<HttpsUrl> {
    let base = location.strip_suffix(INFO_REFS)?;
    let absolute = match base.strip_prefix('/') {
        Some(path) if !path.starts_with('/') => format!("https://{}{base}", url.authority()),
        _ => base.to_owned(),
    };
    let to: HttpsUrl = absolute.parse().ok()?;
    (to.host == url.host && to.port == url.port).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::id;

    #[test]
    fn redirects_stay_on_the_server_and_on_https() {
        let url: HttpsUrl = "https://Git.example.org/rack".parse().unwrap();
        let to = |location: &str| same_host(&url, location).map(|url| url.to_string());
        let tail = INFO_REFS;
        assert_eq!(
            to(&format!("https://git.example.org/rack.git{tail}")).unwrap(),
            "https://git.example.org/rack.git"
        );
        assert_eq!(
            to(&format!("https://GIT.example.ORG/rack.git{tail}")).unwrap(),
            "https://git.example.org/rack.git"
        );
        assert_eq!(
            to(&format!("/rack.git{tail}")).unwrap(),
            "https://git.example.org/rack.git"
        );
        for location in [
            "http://git.example.org/rack.git",
            "https://evil.example.org/rack.git",
            "https://git.example.org:444/rack.git",
            "//evil.example.org/rack.git",
            "https://git.example.org@evil.example.org/rack.git",
        ] {
            assert_eq!(to(&format!("{location}{tail}")), None, "{location}");
        }
        assert_eq!(to("https://git.example.org/login"), None);
    }

    #[test]
    fn names_have_one_spelling() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a3";
        assert!(id(hex, Format::Sha1).is_some());
        assert!(id(&hex.to_uppercase(), Format::Sha1).is_none());
        assert!(id(hex, Format::Sha256).is_none());
        assert!(id(&hex[1..], Format::Sha1).is_none());
    }
}
