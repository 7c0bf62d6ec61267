// SPDX-License-Identifier: Apache-2.0
//! Plain files beside a repository, so that its server need not run Git for what never changes, and for what did not change.
//!
//! ```text
//!   refs/heads/<branch>       the name of the commit that the branch points to, and a line end: asked for at every look
//!   chunks/<xx>/<sha256>      compressed chunks, as packages have them
//! ```
//!
//! A poll costs Git 8.3 ms of the server's processor, and an image of 45 MB 0.6 s, for each tray anew. As files they cost nginx 0.08 ms and
//! 0.1 s, which is TLS, and any cache in between can have them. Both are optional, and nothing of them is believed. A branch's file can spare a
//! question to Git, for a bounded time (`racklet_follow`); a chunk is what its digest says. Git is asked for whatever is missing, late
//! or wrong.
//!
//! There is no `If-None-Match`: a branch's file is a line of 41 or 65 bytes, less than the head of the answer that would spare it.

use std::{
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gix_hash::Kind as Format;
use racklet_trust::{Digest, commit, manifest::Chunk};

use crate::{
    chunk::sha256,
    http::{ANY, Client, HttpError, Request, Until},
    publish, rack, remote,
    tls::{Authorities, Credentials},
    url::HttpsUrl,
};

/// A branch's file is that long at most: a name by SHA-256 and a line end.
const MAX_HEAD: u64 = 65;
/// Chunks come at least as fast as this, on the average: on a line that is slower, the server's processor is not what is scarce.
const BYTES_PER_SECOND: u64 = 32 << 10;
/// So many chunks may be missing: after that the package is taken for one that nobody put there.
const MAX_MISSING: usize = 16;
/// A server that did not do its part is left alone for so long.
const REST: Duration = Duration::from_secs(600);

/// Where plain files are, and how their server is spoken to.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The folder.
    pub url: HttpsUrl,
    /// Who may vouch for its server.
    pub authorities: Authorities,
    /// As whom to ask.
    pub credentials: Credentials,
    /// Copies share it: one conversation's trouble spares the others theirs.
    rest: Arc<Mutex<Option<Instant>>>,
}

impl Beside {
    /// Files in the folder at `url`.
    #[must_use]
    pub fn new(url: HttpsUrl, authorities: Authorities, credentials: Credentials) -> Self {
        Self {
            url,
            authorities,
            credentials,
            rest: Arc::default(),
        }
    }

    fn rests(&self, now: Instant) -> bool {
        let until = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }
}

/// Why plain files are of no use for now.
#[derive(Debug, thiserror::Error)]
pub enum BesideError {
    /// Connection, TLS, HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A file of a branch with something else in it.
    #[error("{0} is not the name of a commit")]
    NoName(String),
    /// Chunks that come too slowly.
    #[error("chunks come at less than 32 KiB a second")]
    Slow,
    /// A chunk with other bytes.
    #[error("chunk {chunk} has other bytes: they do not match its digest, theirs is {found}")]
    Altered {
        /// Which chunk, by its digest.
        chunk: Digest,
        /// The digest of what came in its place.
        found: Digest,
    },
}

/// A conversation with the server of plain files.
#[derive(Debug)]
pub(crate) struct Files {
    at: Beside,
    client: Client,
    trouble: Option<BesideError>,
}

/// The chunks of one package, on their way.
#[derive(Debug)]
pub(crate) struct Fetching<'a> {
    files: &'a mut Files,
    begun: Instant,
    bytes: u64,
    missing: usize,
}

impl Files {
    pub(crate) fn new(at: Beside, client: Client) -> Self {
        Self {
            at,
            client,
            trouble: None,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn finish_by(&mut self, end: Option<Instant>) {
        self.client.finish_by(end);
    }

    pub(crate) fn trouble(&self) -> Option<&BesideError> {
        self.trouble.as_ref()
    }

    fn rests(&self) -> bool {
        self.at.rests(self.client.now())
    }

    /// Leaves the server alone for a while. An error only where the whole conversation is over.
    fn failed(&mut self, error: BesideError) -> Result<(), HttpError> {
        if let BesideError::Http(over @ (HttpError::NoTimeLeft | HttpError::CalledOff)) = error {
            return Err(over);
        }
        let until = self.client.now() + REST;
        *(self.at.rest.lock()).unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.trouble = Some(error);
        Ok(())
    }

    /// One file of at most `most` bytes; `None` where there is none.
    fn get(&mut self, path: &str, most: u64, until: Until) -> Result<Option<Vec<u8>>, HttpError> {
        let request = Request {
            url: &self.at.url,
            suffix: path,
            post: None,
            expected: ANY,
            limit: most,
            until,
        };
        let mut body = match self.client.send(&request) {
            Err(HttpError::Status {
                status: 404 | 410, ..
            }) => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(HttpError::from_io)?;
        Ok(Some(bytes))
    }

    /// What the file of `branch` (`refs/heads/…`) names: a claim.
    pub(crate) fn head(&mut self, branch: &str) -> Result<Option<commit::ObjectId>, HttpError> {
        if self.rests() {
            return Ok(None);
        }
        let until = self.client.within(self.client.timeouts().beside);
        let found = match self.get(&format!("/{branch}"), MAX_HEAD, until) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => name(&bytes).ok_or_else(|| BesideError::NoName(branch.to_owned())),
            Err(error) => Err(error.into()),
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) => self.failed(error).map(|()| None),
        }
    }

    /// Begins with the chunks of a package, where this makes sense.
    pub(crate) fn fetching(&mut self) -> Option<Fetching<'_>> {
        let begun = self.client.now();
        (!self.rests()).then_some(Fetching {
            files: self,
            begun,
            bytes: 0,
            missing: 0,
        })
    }
}

impl Fetching<'_> {
    /// One chunk, with the bytes that its digest names; `None` where it does not come.
    pub(crate) fn chunk(&mut self, chunk: &Chunk) -> Result<Option<Vec<u8>>, HttpError> {
        let files = &mut *self.files;
        if self.missing > MAX_MISSING || files.rests() {
            return Ok(None);
        }
        let size = u64::from(chunk.size);
        // Those that came faster have earned time for the others, and no end of it.
        let fair = Duration::from_secs((self.bytes + size) / BYTES_PER_SECOND);
        let spent = files.client.now().saturating_duration_since(self.begun);
        let left = (files.client.timeouts().beside + fair).saturating_sub(spent);
        if left.is_zero() {
            return files.failed(BesideError::Slow).map(|()| None);
        }
        let until = files.client.within(left);
        let path = format!("/{}", publish::chunk_path(chunk.sha256));
        let error = match files.get(&path, size, until) {
            Ok(None) => {
                self.missing += 1;
                return Ok(None);
            }
            Ok(Some(bytes)) => match sha256(&bytes) {
                found if found == chunk.sha256 => {
                    self.bytes += size;
                    return Ok(Some(bytes));
                }
                found => BesideError::Altered {
                    chunk: chunk.sha256,
                    found,
                },
            },
            Err(error) => error.into(),
        };
        files.failed(error).map(|()| None)
    }

    /// Bytes of chunks that came.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A commit's name and a line end, as Git writes them.
fn name(bytes: &[u8]) -> Option<commit::ObjectId> {
    let hex = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let formats = [Format::Sha1, Format::Sha256];
    let format = formats
        .into_iter()
        .find(|it| it.len_in_hex() == hex.len())?;
    remote::id(hex, format).map(|id| rack::ours(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branchs_file_is_a_name_and_a_line_end() {
        for hex in ["ab".repeat(20), "01".repeat(32)] {
            let named = name(format!("{hex}\n").as_bytes());
            assert_eq!(named.map(|id| id.to_string()), Some(hex));
        }
        let hex = "ab".repeat(20);
        for other in [
            String::new(),
            "\n".into(),
            hex.clone(),
            format!("{hex}\r\n"),
            format!("{hex}\n\n"),
            format!("{}\n", hex.to_uppercase()),
            format!("{}\n", &hex[1..]),
            format!("{hex}00\n"),
            "ref: refs/heads/main\n".into(),
        ] {
            assert_eq!(name(other.as_bytes()), None, "{other:?}");
        }
    }
}
