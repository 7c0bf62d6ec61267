// SPDX-License-Identifier: Apache-2.0
//! A Git server, spoken to in protocol version 2 over HTTPS (gitprotocol-v2.txt): list refs, fetch a pack.
//!
//! A [`Remote`] is one conversation: the first use asks for the server's capabilities, later ones reuse answer and connection. What
//! comes back is a claim.

pub(crate) mod boundary;
pub(crate) mod capabilities;
mod config;
mod error;
pub(crate) mod refs;

use std::{collections::HashSet, io, time::Instant};

use gix_hash::{Kind as Format, ObjectId};

use crate::{
    beside::{BesideError, Files},
    http::{Body, Client, Dial, HttpError, Request, Until},
    limits::Limits,
    pack::{self, Objects, PackError, Place},
    pkt::{Line, Lines, SideBand, put},
    progress::{Phase, Progress},
    tls::{self, TlsError},
    url::HttpsUrl,
};

pub(crate) use self::refs::id;
use self::{
    capabilities::{Capabilities, MAX_CAPABILITIES},
    error::from_pack,
};
pub use self::{config::RemoteConfig, error::RemoteError, refs::Ref};

/// Largest listing of refs whose names are known: some 100,000 lines. What is not one of them is dropped as it comes.
const MAX_NAMED: u64 = 8 << 20;

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
    beside: Option<Files>,
    capabilities: Option<Capabilities>,
    /// Set by the question for the capabilities: the listing behind it shares its time.
    questions: Option<Until>,
}

impl Remote {
    /// Prepares a conversation. Nothing is sent yet.
    ///
    /// # Errors
    /// [`TlsError`] when authorities or credentials cannot be used.
    pub fn new(config: &RemoteConfig) -> Result<Self, TlsError> {
        let client = |authorities, credentials| {
            let dial = Dial {
                tls: tls::config(authorities, credentials, config.clock.clone())?,
                timeouts: config.timeouts.clone(),
                resolver: config.resolver.clone(),
                pulse: config.pulse.clone(),
                worked: config.worked.clone(),
            };
            Ok(Client::new(dial, tls::authorization(credentials)?))
        };
        let beside = config.beside.as_ref().map(|at| {
            let client = client(&at.authorities, &at.credentials)?;
            Ok(Files::new(at.clone(), client))
        });
        Ok(Self {
            url: config.url.clone(),
            client: client(&config.authorities, &config.credentials)?,
            beside: beside.transpose()?,
            capabilities: None,
            questions: None,
        })
    }

    /// Whatever is asked from now on must be done by `end`: names, connections, questions and packs, all together.
    pub fn finish_by(&mut self, end: Option<Instant>) {
        self.client.finish_by(end);
        if let Some(files) = &mut self.beside {
            files.finish_by(end);
        }
        self.questions = None;
    }

    /// What the plain file of `branch` (`refs/heads/…`) beside the repository names: a claim. Nothing, where there is none that can be read.
    ///
    /// # Errors
    /// [`RemoteError`] where the time for the whole conversation is over.
    pub fn branch_beside(
        &mut self,
        branch: &str,
    ) -> Result<Option<racklet_trust::commit::ObjectId>, RemoteError> {
        match &mut self.beside {
            Some(files) => Ok(files.head(branch)?),
            None => Ok(None),
        }
    }

    /// What was wrong with the plain files beside the repository when they were asked for last in this conversation.
    #[must_use]
    pub fn trouble_beside(&self) -> Option<&BesideError> {
        self.beside.as_ref().and_then(Files::trouble)
    }

    pub(crate) fn beside(&mut self) -> Option<&mut Files> {
        self.beside.as_mut()
    }

    /// When the small questions that begin now must be answered.
    fn for_questions(&self) -> Until {
        self.client.within(self.client.timeouts().questions)
    }

    /// Bytes received so far, TLS included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.clients().map(|client| client.traffic().0).sum()
    }

    /// Bytes sent so far, TLS included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.clients().map(|client| client.traffic().1).sum()
    }

    fn clients(&self) -> impl Iterator<Item = &Client> {
        std::iter::once(&self.client).chain(self.beside.as_ref().map(Files::client))
    }

    /// How this server names objects.
    ///
    /// # Errors
    /// [`RemoteError`] when the server cannot be reached or does not speak protocol version 2.
    pub fn format(&mut self) -> Result<Format, RemoteError> {
        Ok(self.known()?.format)
    }

    /// Whether it leaves out what is asked to be left out.
    pub(crate) fn filters(&mut self) -> Result<bool, RemoteError> {
        Ok(self.known()?.filters)
    }

    fn known(&mut self) -> Result<Capabilities, RemoteError> {
        if let Some(known) = self.capabilities {
            return Ok(known);
        }
        let until = self.for_questions();
        let known = self.capabilities(until)?;
        self.capabilities = Some(known);
        self.questions = Some(until);
        Ok(known)
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
        let limit = MAX_CAPABILITIES + 256 * limits.refs as u64;
        let wanted = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        self.listed(prefixes, limit, limits.refs, &wanted)
    }

    /// The refs that are called exactly like one of `names`. Names that only begin like these are not counted: they cost what reading
    /// them costs, up to [`MAX_NAMED`] bytes.
    ///
    /// # Errors
    /// [`RemoteError`] with the reason.
    pub fn named(&mut self, names: &[&str], limits: &Limits) -> Result<Vec<Ref>, RemoteError> {
        let wanted: HashSet<&str> = names.iter().copied().collect();
        let most = limits.refs.max(wanted.len());
        self.listed(names, MAX_NAMED, most, &|name| wanted.contains(name))
    }

    fn listed(
        &mut self,
        prefixes: &[&str],
        bytes: u64,
        most: usize,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Ref>, RemoteError> {
        let format = self.format()?;
        let until = self.questions.take();
        let until = until.unwrap_or_else(|| self.for_questions());
        let mut request = Self::command("ls-refs", format);
        for prefix in prefixes {
            put(&mut request, &format!("ref-prefix {prefix}"));
        }
        request.extend_from_slice(b"0000");
        let mut lines = Lines::new(self.post(&request, bytes, until)?);
        let refs = refs::listed(&mut lines, format, most, wanted)?;
        lines.into_inner().finish().map_err(HttpError::from_io)?;
        Ok(refs)
    }

    /// What the ref called exactly `name` points to, if there is one.
    ///
    /// # Errors
    /// [`RemoteError`] with the reason.
    pub fn find(&mut self, name: &str, limits: &Limits) -> Result<Option<ObjectId>, RemoteError> {
        // Whoever may push branches can push any number of names that begin like this one: none of them counts.
        let mut named = self.named(&[name], limits)?.into_iter();
        Ok(named.next().map(|found| found.id))
    }

    /// The branch that the server shows to whoever names none: a claim, for an error's words.
    ///
    /// # Errors
    /// [`RemoteError`] with the reason.
    pub fn default_branch(&mut self) -> Result<Option<String>, RemoteError> {
        let format = self.format()?;
        let until = self.for_questions();
        let mut request = Self::command("ls-refs", format);
        put(&mut request, "symrefs");
        put(&mut request, "ref-prefix HEAD");
        request.extend_from_slice(b"0000");
        let mut lines = Lines::new(self.post(&request, MAX_CAPABILITIES, until)?);
        let found = refs::default_branch(&mut lines)?;
        lines.into_inner().finish().map_err(HttpError::from_io)?;
        Ok(found)
    }

    /// Fetches a pack and takes it apart.
    pub(crate) fn fetch(
        &mut self,
        want: &Want<'_>,
        limits: &Limits,
        place: &mut dyn Place,
        progress: &mut dyn Progress,
    ) -> Result<Objects, RemoteError> {
        self.fetch_without(None, want, limits, place, progress)
    }

    /// As [`Self::fetch`], without what `filter` leaves out (git-rev-list(1), `--filter`), where the server does that.
    pub(crate) fn fetch_without(
        &mut self,
        filter: Option<&str>,
        want: &Want<'_>,
        limits: &Limits,
        place: &mut dyn Place,
        progress: &mut dyn Progress,
    ) -> Result<Objects, RemoteError> {
        let format = self.format()?;
        let mut request = Self::command("fetch", format);
        if let Some(filter) = filter.filter(|_| self.capabilities.is_some_and(|it| it.filters)) {
            put(&mut request, &format!("filter {filter}"));
        }
        // Without `no-progress`: what a server tells of its work keeps proxies from taking it for dead, most of them after 60 s.
        for word in ["ofs-delta", "thin-pack"] {
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
        let until = self.client.thinking();
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
        // Returns with the pack's first byte.
        let begun = io::BufRead::fill_buf(&mut band).map(|_| ());
        begun.map_err(|error| from_pack(PackError::Read(error)))?;
        band.inner_mut().flows();
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
