// SPDX-License-Identifier: Apache-2.0
//! A Git server, spoken to in protocol version 2 over HTTPS (gitprotocol-v2.txt): list refs, fetch a pack.
//!
//! A [`Remote`] is one conversation: the first use asks for the server's capabilities, later ones reuse answer and connection. What
//! comes back is a claim.

pub(crate) mod boundary;

use std::{io, sync::Arc, time::Instant};

use gix_hash::{Kind as Format, ObjectId};

use crate::{
    http::{Body, Client, HttpError, Request},
    limits::{Limits, Timeouts},
    pack::{self, Objects, PackError, Place},
    pkt::{Line, Lines, SideBand, put},
    progress::{Phase, Progress},
    pulse::{Pulse, Untold},
    stream::{Resolve, SystemResolver, Until},
    tls::{self, Authorities, ClientCertificate, Clock, Credentials, TlsError, Token},
    url::{HttpsUrl, UrlError},
};

/// Where a repository is and how to speak with its server.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The repository.
    pub url: HttpsUrl,
    /// Who may vouch for the server.
    pub authorities: Authorities,
    /// As whom to ask.
    pub credentials: Credentials,
    /// By which clock certificates are judged.
    pub clock: Arc<dyn Clock>,
    /// How patient to be.
    pub timeouts: Timeouts,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
    /// By which clock patience goes, and who is told that there is waiting.
    pub pulse: Arc<dyn Pulse>,
}

impl RemoteConfig {
    /// What a tray's configuration says of its rack repository.
    ///
    /// # Errors
    /// [`UrlError`] when the address is not one of ours.
    pub fn of_tray(
        repository: &racklet_api::tray::Repository,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UrlError> {
        let mut config = Self::new(repository.url.parse()?, clock);
        if let Some(ca) = &repository.ca {
            config.authorities = Authorities::Pem(ca.clone().into_bytes());
        }
        config.credentials = Credentials {
            // Servers that take tokens in this way do not look at the name.
            token: repository.token.as_ref().map(|token| Token::Basic {
                user: "git".into(),
                password: token.expose().into(),
            }),
            certificate: repository.client.as_ref().map(|client| ClientCertificate {
                chain: client.certificate.clone().into_bytes(),
                key: client.key.expose().as_bytes().to_vec(),
            }),
        };
        Ok(config)
    }

    /// Public authorities, no credentials, usual patience, the C library's resolver.
    #[must_use]
    pub fn new(url: HttpsUrl, clock: Arc<dyn Clock>) -> Self {
        Self {
            url,
            authorities: Authorities::Public,
            credentials: Credentials::default(),
            clock,
            timeouts: Timeouts::default(),
            resolver: Arc::new(SystemResolver),
            pulse: Arc::new(Untold),
        }
    }
}

/// Why a conversation with a server failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Connection, TLS, HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A redirect to another host, or to plain http.
    #[error(
        "the server redirects to {0:?}; only the configured host is followed, and only by https"
    )]
    Redirect(String),
    /// A line of Git's that cannot be.
    #[error("a line of Git's answer is not proper: {0}")]
    Line(&'static str),
    /// The server's own words.
    #[error("the server says: {0}")]
    Server(String),
    /// Version 0 or 1.
    #[error(
        "the server does not speak Git's protocol version 2 (git 2.18 or newer; behind nginx, HTTP_GIT_PROTOCOL must be passed on)"
    )]
    Version,
    /// Neither SHA-1 nor SHA-256.
    #[error("the repository names objects by {0:?}, which is not known here")]
    Format(String),
    /// More refs than allowed.
    #[error("the server lists more than {0} refs")]
    Refs(usize),
    /// A pack that is refused.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// One ref of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// Full name.
    pub name: String,
    /// What it points to.
    pub id: ObjectId,
}

/// What to ask a pack for.
pub(crate) struct Want<'a> {
    pub(crate) ids: &'a [ObjectId],
    /// Commits that are here with everything in their trees, but without their parents.
    pub(crate) have: &'a [ObjectId],
    /// So many commits; all down to `have`, or to the root, where there is none.
    pub(crate) depth: Option<u32>,
}

/// A Git server.
#[derive(Debug)]
pub struct Remote {
    url: HttpsUrl,
    client: Client,
    format: Option<Format>,
    /// Set by the question for the capabilities: the listing behind it shares its time.
    questions: Option<Until>,
}

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const INFO_REFS: &str = "/info/refs?service=git-upload-pack";
const MAX_REDIRECTS: usize = 3;
/// Largest answer that only lists capabilities.
const MAX_CAPABILITIES: u64 = 64 * 1024;

impl Remote {
    /// Prepares a conversation. Nothing is sent yet.
    ///
    /// # Errors
    /// [`TlsError`] when authorities or credentials cannot be used.
    pub fn new(config: &RemoteConfig) -> Result<Self, TlsError> {
        let tls = tls::config(
            &config.authorities,
            &config.credentials,
            config.clock.clone(),
        )?;
        let authorization = tls::authorization(&config.credentials)?;
        Ok(Self {
            url: config.url.clone(),
            client: Client::new(
                tls,
                authorization,
                config.timeouts.clone(),
                config.resolver.clone(),
                config.pulse.clone(),
            ),
            format: None,
            questions: None,
        })
    }

    /// Whatever is asked from now on must be done by `end`: names, connections, questions and packs, all together.
    pub fn finish_by(&mut self, end: Option<Instant>) {
        self.client.finish_by(end);
        self.questions = None;
    }

    /// When the small questions that begin now must be answered.
    fn for_questions(&self) -> Until {
        self.client.within(self.client.timeouts().questions)
    }

    /// Bytes received so far, TLS included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.client.traffic().0
    }

    /// Bytes sent so far, TLS included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.client.traffic().1
    }

    /// How this server names objects.
    ///
    /// # Errors
    /// [`RemoteError`] when the server cannot be reached or does not speak protocol version 2.
    pub fn format(&mut self) -> Result<Format, RemoteError> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let until = self.for_questions();
        let format = self.capabilities(until)?;
        self.format = Some(format);
        self.questions = Some(until);
        Ok(format)
    }

    fn capabilities(&mut self, until: Until) -> Result<Format, RemoteError> {
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
                other => return read_capabilities(other?),
            }
        }
        Err(RemoteError::Redirect("one address after another".into()))
    }

    /// A request's first lines.
    fn command(name: &str, format: Format) -> Vec<u8> {
        let mut request = Vec::new();
        put(&mut request, &format!("command={name}"));
        put(
            &mut request,
            concat!("agent=racklet/", env!("CARGO_PKG_VERSION")),
        );
        put(&mut request, &format!("object-format={format}"));
        request.extend_from_slice(b"0001");
        request
    }

    /// The refs whose names begin with one of `prefixes`, in the server's order. At most `limits.refs` are taken, so ask for few.
    ///
    /// # Errors
    /// [`RemoteError`] with the reason.
    pub fn list(&mut self, prefixes: &[&str], limits: &Limits) -> Result<Vec<Ref>, RemoteError> {
        let format = self.format()?;
        let until = self.questions.take();
        let until = until.unwrap_or_else(|| self.for_questions());
        let mut request = Self::command("ls-refs", format);
        for prefix in prefixes {
            put(&mut request, &format!("ref-prefix {prefix}"));
        }
        request.extend_from_slice(b"0000");
        let limit = MAX_CAPABILITIES + 256 * limits.refs as u64;
        let mut lines = Lines::new(self.post(&request, limit, until)?);
        let mut refs = Vec::new();
        loop {
            let line = lines.next()?;
            if line == Line::Flush {
                break;
            }
            let bad = RemoteError::Line("a ref is not `name SP ref`");
            let Some((id, rest)) = line.text().and_then(|text| text.split_once(' ')) else {
                return Err(bad);
            };
            let name = rest.split(' ').next().unwrap_or(rest);
            // Servers may ignore the prefix.
            if !prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            if refs.len() == limits.refs {
                return Err(RemoteError::Refs(limits.refs));
            }
            refs.push(Ref {
                id: self::id(id, format).ok_or(bad)?,
                name: name.to_owned(),
            });
        }
        lines.into_inner().finish().map_err(HttpError::from_io)?;
        Ok(refs)
    }

    /// What the ref called exactly `name` points to, if there is one.
    ///
    /// # Errors
    /// [`RemoteError`] with the reason.
    pub fn find(&mut self, name: &str, limits: &Limits) -> Result<Option<ObjectId>, RemoteError> {
        Ok(self
            .list(&[name], limits)?
            .into_iter()
            .find(|r| r.name == name)
            .map(|r| r.id))
    }

    /// Fetches a pack and takes it apart.
    pub(crate) fn fetch(
        &mut self,
        want: &Want<'_>,
        limits: &Limits,
        place: &mut dyn Place,
        progress: &mut dyn Progress,
    ) -> Result<Objects, RemoteError> {
        let format = self.format()?;
        let mut request = Self::command("fetch", format);
        for word in ["no-progress", "ofs-delta", "thin-pack"] {
            put(&mut request, word);
        }
        for id in want.ids {
            put(&mut request, &format!("want {id}"));
        }
        for have in want.have {
            put(&mut request, &format!("shallow {have}"));
        }
        if let Some(depth) = want.depth {
            put(&mut request, &format!("deepen {depth}"));
        }
        for have in want.have {
            put(&mut request, &format!("have {have}"));
        }
        put(&mut request, "done");
        request.extend_from_slice(b"0000");
        self.receive(&request, limits, place, progress)
    }

    /// Sends a request for a pack and takes apart what comes.
    fn receive(
        &mut self,
        request: &[u8],
        limits: &Limits,
        place: &mut dyn Place,
        progress: &mut dyn Progress,
    ) -> Result<Objects, RemoteError> {
        let format = self.format()?;
        let until = self.client.within(self.client.timeouts().pack);
        let mut lines = Lines::new(self.post(request, limits.response, until)?);
        loop {
            let line = lines.next()?;
            match line.text() {
                Some("packfile") => break,
                // What the server says of its own history's ends proves nothing: ancestry is checked on the commits.
                Some("shallow-info" | "acknowledgments") => loop {
                    match lines.next()? {
                        Line::Delimiter => break,
                        Line::Data(_) => {}
                        Line::Flush | Line::End => {
                            return Err(RemoteError::Line("the answer has no pack"));
                        }
                    }
                },
                _ => return Err(RemoteError::Line("a section that was not asked for")),
            }
        }
        let mut band = SideBand::new(lines);
        let objects = pack::read(
            Watched {
                inner: &mut band,
                bytes: 0,
                progress,
            },
            format,
            limits,
            place,
        )
        .map_err(from_pack)?;
        if place.is_full() {
            // The rest is not wanted: it goes with the connection.
            return Ok(objects);
        }
        band.into_lines()
            .into_inner()
            .finish()
            .map_err(HttpError::from_io)?;
        Ok(objects)
    }

    fn post(&mut self, body: &[u8], limit: u64, until: Until) -> Result<Body<'_>, RemoteError> {
        let sent = self.client.send(&Request {
            url: &self.url,
            suffix: "/git-upload-pack",
            post: Some(("application/x-git-upload-pack-request", body)),
            expected: "application/x-git-upload-pack-result",
            limit,
            until,
        });
        match sent {
            Err(HttpError::Redirect { location, .. }) => Err(RemoteError::Redirect(location)),
            other => Ok(other?),
        }
    }
}

fn read_capabilities(body: Body<'_>) -> Result<Format, RemoteError> {
    let mut lines = Lines::new(body);
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
    let mut format = Format::Sha1;
    loop {
        let line = lines.next()?;
        if line == Line::Flush {
            break;
        }
        let capability = line
            .text()
            .ok_or(RemoteError::Line("a capability is not text"))?;
        match capability.strip_prefix("object-format=") {
            Some("sha1") => format = Format::Sha1,
            Some("sha256") => format = Format::Sha256,
            Some(other) => return Err(RemoteError::Format(other.chars().take(20).collect())),
            None => {}
        }
    }
    lines.into_inner().finish().map_err(HttpError::from_io)?;
    Ok(format)
}

/// Git's and HTTP's errors come through the pack reader as I/O errors: give them back as what they are.
fn from_pack(error: PackError) -> RemoteError {
    match error {
        PackError::Read(error) => match error.downcast::<RemoteError>() {
            Ok(ours) => ours,
            Err(error) => RemoteError::Http(HttpError::from_io(error)),
        },
        other => other.into(),
    }
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

/// Reads an object's name, which must be of `format`'s length and in lower case.
pub(crate) fn id(hex: &str, format: Format) -> Option<ObjectId> {
    let proper = hex.len() == format.len_in_hex()
        && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    proper
        .then(|| ObjectId::from_hex(hex.as_bytes()).ok())
        .flatten()
}

/// Tells how much of the pack came.
struct Watched<'a, R> {
    inner: R,
    bytes: u64,
    progress: &'a mut dyn Progress,
}

impl<R: io::BufRead> io::BufRead for Watched<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.bytes += count as u64;
        self.progress.report(Phase::Receiving, self.bytes);
        self.inner.consume(count);
    }
}

impl<R: io::BufRead> io::Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_server_and_on_https() {
        let url: HttpsUrl = "https://git.example.org/rack".parse().unwrap();
        let to = |location: &str| same_host(&url, location).map(|url| url.to_string());
        let tail = INFO_REFS;
        assert_eq!(
            to(&format!("https://git.example.org/rack.git{tail}")).unwrap(),
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
