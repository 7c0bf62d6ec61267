// SPDX-License-Identifier: Apache-2.0
//! The rack repository: fetched, verified by the history rule, kept.
//!
//! ```text
//!   Remote ──fetch──> Fetched ──verify──> RackTree ──keep──> RackStore
//!                        ^                   (files)            │
//!                        └──────────── reopen ──────────────────┘
//! ```
//!
//! A head is *accepted* by the history rule, which looks at commits and at `trust/` alone; it is *in force* when its files are without
//! fault as well. What is accepted is never undercut again, what is in force runs.

mod approvals;
mod local;
mod store;
mod view;
mod way;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use gix_hash::{Kind as Format, ObjectId};
use racklet_trust::{
    Verified, commit,
    floors::Floors,
    history::{self, Accepted, Head},
};

use crate::{
    limits::Limits,
    pack::{self, Kind, Nowhere, Objects, PackError, Place},
    progress::Progress,
    remote::{Remote, RemoteError, Want},
    tree::{self, Layers, Source},
};

use self::approvals::Approvals;
pub use self::approvals::{
    APPROVAL_BRANCHES, APPROVAL_FILE, APPROVALS, approval_branch, approval_ref,
    is_named_after_its_key,
};
use self::view::View;
pub use self::{
    local::{LocalObjects, check_local},
    store::{Kept, RackStore, ReopenError},
    way::Way,
};
pub use crate::{
    snapshot::{Snapshot, SnapshotError},
    tree::TreeError,
};

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The conversation with the server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// No such branch.
    #[error("the repository has no {branch}{}", instead(.there))]
    NoBranch {
        /// The one that was asked for.
        branch: String,
        /// The server's default branch, if it has one.
        there: Option<String>,
    },
    /// A server that once named objects otherwise.
    #[error("the repository names objects by {now}; the accepted head is named by {before}")]
    Format {
        /// What the server says.
        now: Format,
        /// What was accepted.
        before: Format,
    },
}

/// Why a fetched head is not followed.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The history rule.
    #[error(transparent)]
    History(#[from] history::Rejected<TreeError>),
    /// The objects behind a good head are not all there, or too many to be kept.
    #[error("head {head}: {error}")]
    Tree {
        /// The head.
        head: commit::ObjectId,
        /// What is wrong with its tree.
        error: TreeError,
    },
}

/// What a look at the server brought.
#[derive(Debug)]
pub enum Outcome {
    /// The branch points to the accepted head.
    Unchanged,
    /// It points elsewhere: a claim, to be verified.
    New(Box<Fetched>),
}

/// A head and what is needed to judge it. Nothing in it has been believed.
pub struct Fetched {
    head: ObjectId,
    /// What the branch points to is farther.
    on_the_way: bool,
    source: Box<dyn Source>,
    approvals: HashMap<ObjectId, Vec<Vec<u8>>>,
    limits: Limits,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// A head that the history rule accepts, and its files. There is no other way to one.
#[derive(Clone)]
pub struct RackTree {
    head: Verified<Head>,
    floors: Floors,
    files: Result<BTreeMap<String, Vec<u8>>, Arc<TreeError>>,
    snapshot: Snapshot,
}

impl std::fmt::Debug for RackTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RackTree")
            .field("head", &self.head.id)
            .finish_non_exhaustive()
    }
}

/// Where `branch` (full name, `refs/heads/main`) points to: a claim.
///
/// # Errors
/// [`FetchError`] with the reason.
pub fn look(
    remote: &mut Remote,
    branch: &str,
    limits: &Limits,
) -> Result<commit::ObjectId, FetchError> {
    let listed = remote.find(branch, limits)?;
    match listed {
        Some(listed) => Ok(ours(&listed)),
        None => Err(FetchError::NoBranch {
            branch: branch.to_owned(),
            // Only for the error's words: it says what is wrong without them, too.
            there: remote.default_branch().ok().flatten(),
        }),
    }
}

fn instead(there: &Option<String>) -> String {
    match there {
        Some(there) => {
            format!("; its branch is {there:?}: build the image with --branch, or rename it")
        }
        None => "; nothing was pushed to it yet, or to other branches only".to_owned(),
    }
}

/// Looks at `branch` and fetches what came since `accepted`, or as much of it as may be fetched at once: what is accepted of that, the
/// next look builds on.
///
/// # Errors
/// [`FetchError`]; what was accepted before stays as it is.
pub fn fetch(
    remote: &mut Remote,
    branch: &str,
    accepted: Option<&Snapshot>,
    limits: &Limits,
    progress: &mut dyn Progress,
) -> Result<Outcome, FetchError> {
    let listed = look(remote, branch, limits)?;
    fetch_along(
        &mut Way::default(),
        remote,
        listed,
        accepted,
        limits,
        progress,
    )
}

/// Fetches what came since `accepted` up to `listed`, which a look brought, with what was learnt of the way before.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_along(
    way: &mut Way,
    remote: &mut Remote,
    listed: commit::ObjectId,
    accepted: Option<&Snapshot>,
    limits: &Limits,
    progress: &mut dyn Progress,
) -> Result<Outcome, FetchError> {
    let (listed, format) = (theirs(&listed), remote.format()?);
    if let Some(accepted) = accepted
        && accepted.format() != format
    {
        return Err(FetchError::Format {
            now: format,
            before: accepted.format(),
        });
    }
    if accepted.map(Snapshot::head) == Some(listed) {
        return Ok(Outcome::Unchanged);
    }
    let (head, new) = match accepted {
        Some(accepted) => way.go(remote, accepted, listed, limits, progress)?,
        // Without an accepted head, the new one is judged alone.
        None => {
            let want = Want {
                ids: &[listed],
                have: &[],
                depth: Some(1),
            };
            (listed, remote.fetch(&want, limits, &mut Nowhere, progress)?)
        }
    };
    let known = accepted.map(Snapshot::objects);
    let approvals = approvals::fetch(remote, &new, known.as_deref(), limits, progress)?;
    Ok(Outcome::New(Box::new(Fetched {
        head,
        on_the_way: head != listed,
        source: Box::new(Layers {
            layers: std::iter::once(Arc::new(new)).chain(known).collect(),
            format,
        }),
        approvals,
        limits: limits.clone(),
    })))
}

/// Deltas may build on what was accepted.
struct Bases<'a>(&'a Objects);

impl Place for Bases<'_> {
    fn base(&mut self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.0.get(id).cloned()
    }

    fn take(&mut self, _: &[u8]) -> io::Result<Option<racklet_trust::Digest>> {
        Ok(None)
    }

    fn taken(&mut self, _: racklet_trust::Digest) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Fetched {
    /// What a server would bring that sent just this pack: for a person's own repository, judged as a tray would judge it.
    ///
    /// # Errors
    /// [`PackError`] when the pack is not proper or beyond `limits`.
    pub fn from_pack(
        pack: impl io::BufRead,
        head: commit::ObjectId,
        limits: &Limits,
    ) -> Result<Self, PackError> {
        let head = theirs(&head);
        let format = head.kind();
        let objects = pack::read(pack, format, limits, &mut Nowhere)?;
        let source = Layers {
            layers: vec![Arc::new(objects)],
            format,
        };
        Ok(Self::new(head, Box::new(source), HashMap::new(), limits))
    }

    /// What a kept head claims to be: judged like one that a server sent.
    fn kept(snapshot: &Snapshot, limits: &Limits) -> Self {
        let source = Layers {
            layers: vec![snapshot.objects()],
            format: snapshot.format(),
        };
        let approvals = HashMap::from([(snapshot.head(), snapshot.approvals().to_vec())]);
        Self::new(snapshot.head(), Box::new(source), approvals, limits)
    }

    fn new(
        head: ObjectId,
        source: Box<dyn Source>,
        approvals: HashMap<ObjectId, Vec<Vec<u8>>>,
        limits: &Limits,
    ) -> Self {
        Self {
            head,
            on_the_way: false,
            source,
            approvals,
            limits: limits.clone(),
        }
    }

    /// The head on offer.
    #[must_use]
    pub fn head(&self) -> commit::ObjectId {
        ours(&self.head)
    }

    /// Whether this is only a commit on the way to the branch's head: once it is accepted, there is more to fetch. Its files matter
    /// only where that fails.
    #[must_use]
    pub fn on_the_way(&self) -> bool {
        self.on_the_way
    }

    /// Decides by the history rule whether this head may follow `accepted`, then reads its files.
    ///
    /// # Errors
    /// [`Rejected`] with the commit and the rule; what was accepted before stays in force.
    pub fn verify(&self, accepted: &Accepted) -> Result<RackTree, Rejected> {
        judge(
            &*self.source,
            &self.approvals,
            self.head,
            accepted,
            &self.limits,
        )
    }
}

/// Decides by the history rule whether `id` may follow `accepted`, then gathers what is in its tree.
fn judge(
    source: &dyn Source,
    approvals: &Approvals,
    id: ObjectId,
    accepted: &Accepted,
    limits: &Limits,
) -> Result<RackTree, Rejected> {
    let view = View::new(source, approvals);
    let head = history::follow_within(&view, accepted, ours(&id), limits.commits)?;
    let reject = |error| Rejected::Tree {
        head: head.id,
        error,
    };
    let commit = tree::object(source, id, Kind::Commit).map_err(reject)?;
    let mut objects = Objects::from([(id, (Kind::Commit, commit))]);
    let top = theirs(&head.tree);
    tree::closure(source, top, limits, &mut |id, kind, bytes| {
        objects.insert(id, (kind, bytes));
    })
    .map_err(reject)?;
    let files = tree::files(source, top, limits).map_err(Arc::new);
    let snapshot = Snapshot::new(
        source.format(),
        id,
        head.generation,
        approvals.get(&id).cloned().unwrap_or_default(),
        objects,
    );
    let mut floors = accepted.floors.clone();
    floors.raise(&head.floors());
    Ok(RackTree {
        head,
        floors,
        files,
        snapshot,
    })
}

impl RackTree {
    /// The accepted head: commit, generation, trust root, signed time.
    #[must_use]
    pub fn head(&self) -> &Verified<Head> {
        &self.head
    }

    /// What the next head must follow.
    #[must_use]
    pub fn accepted(&self) -> Accepted {
        Accepted {
            head: Some(self.head.id),
            generation: self.head.generation,
            root: self.head.root.clone(),
            floors: self.floors.clone(),
        }
    }

    /// Its files, by path (with `/`, from the top).
    ///
    /// # Errors
    /// [`TreeError`] where there are others than plain files and folders, or too many: no such head is put in force.
    pub fn files(&self) -> Result<impl Iterator<Item = (&str, &[u8])>, Arc<TreeError>> {
        let files = self.files.as_ref().map_err(Arc::clone)?;
        Ok(files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice())))
    }

    /// One file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.as_ref().ok()?.get(path).map(Vec::as_slice)
    }

    /// What [`fetch`] builds on and [`RackStore::keep`] keeps.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// gitoxide's name for an object as `lib/trust` has it.
pub(crate) fn ours(id: &ObjectId) -> commit::ObjectId {
    commit::ObjectId::from_bytes(id.as_slice()).expect("both know names of 20 and of 32 bytes")
}

fn theirs(id: &commit::ObjectId) -> ObjectId {
    ObjectId::try_from(id.as_bytes()).expect("both know names of 20 and of 32 bytes")
}
