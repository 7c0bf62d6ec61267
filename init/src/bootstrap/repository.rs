// SPDX-License-Identifier: Apache-2.0
//! The rack repository: the kept head, a newer one from the server, and what either says this tray should boot.

use std::sync::Arc;

use racklet_api::tray::TrayConfig;
use racklet_fetch::disk::Files;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::Progress;
use racklet_fetch::rack::{FetchError, Outcome, RackStore, RackTree, Rejected, Way};
use racklet_fetch::remote::{Remote, RemoteConfig};
use racklet_fetch::tls::{SystemClock, TlsError};
use racklet_fetch::url::UrlError;
use racklet_rack::{Pin, Problems};
use racklet_trust::digest::Hex;
use racklet_trust::history::Accepted;
use racklet_trust::{Digest, TrustRoot, Verified};

use crate::console::Topic;
use crate::state::State;
use racklet_tell::error::Chain;

pub(crate) const REPOSITORY: Topic = Topic("repository");

/// Why there is no newer head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("{0}")]
    Url(
        #[source]
        #[from]
        UrlError,
    ),
    #[error("{0}")]
    Tls(
        #[source]
        #[from]
        TlsError,
    ),
    #[error("{0}")]
    Fetch(
        #[source]
        #[from]
        FetchError,
    ),
    #[error("{0}")]
    Rejected(
        #[source]
        #[from]
        Rejected,
    ),
}

impl RepositoryError {
    /// Whether trying again soon makes no sense: the server gave an answer, and it was not good.
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Fetch(FetchError::Remote(_)))
    }
}

/// Why an accepted head does not say what to boot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPin {
    #[error("rack.yaml and the other objects have {0} problems, the first: {1}")]
    Problems(usize, String),
    #[error("rack.yaml says rack {0}, but the trust root is of rack {1}")]
    OtherRack(String, String),
    #[error("{0}")]
    UnknownTray(#[source] racklet_rack::UnknownTray),
    #[error("no release covers tray {0}: add it to a file in releases/")]
    NoRelease(String),
    #[error("{0}")]
    Tree(String),
    #[error("no head was accepted")]
    NoHead,
}

/// The conversation with the server and what was accepted so far.
pub(crate) struct Repository {
    branch: String,
    /// How its server is spoken to.
    pub(crate) remote: RemoteConfig,
    store: RackStore<Files>,
    root: Verified<TrustRoot>,
    /// The accepted head, once there is one.
    pub(crate) tree: Option<RackTree>,
}

impl Repository {
    /// Reads the kept head or, where that is lost, the one that was in force. What is wrong with them is told and costs one full fetch.
    pub(crate) fn open(
        tray: &TrayConfig,
        root: Verified<TrustRoot>,
        state: &State,
    ) -> Result<Self, RepositoryError> {
        let remote = RemoteConfig::of_tray(&tray.repository, Arc::new(SystemClock))?;
        let store = RackStore::new(Files, state.folder("git/rack"));
        let mut repository = Self {
            branch: format!("refs/heads/{}", tray.repository.branch),
            remote,
            store,
            root,
            tree: None,
        };
        let reopened = repository
            .store
            .reopen(&repository.root, state.floors(), &Limits::RACK);
        repository.tree = reopened
            .unwrap_or_else(|error| {
                REPOSITORY.failed(Chain(&error), "begin with the one in force, or anew");
                None
            })
            .or_else(|| repository.in_force(state));
        Ok(repository)
    }

    /// The head that the hypervisor last put in force.
    fn in_force(&self, state: &State) -> Option<RackTree> {
        let reopened = self
            .store
            .reopen_in_force(&self.root, state.floors(), &Limits::RACK);
        reopened.unwrap_or_else(|error| {
            REPOSITORY.failed(
                format_args!("the head in force: {}", Chain(&error)),
                "go on without it",
            );
            None
        })
    }

    /// What this tray should boot: what the accepted head says or, where its files are at fault, what the head in force says.
    pub(crate) fn wanted(&self, tray: &TrayConfig, state: &State) -> Result<Wanted, NoPin> {
        let newest = self.tree.as_ref().ok_or(NoPin::NoHead)?;
        let error = match wanted(newest, tray) {
            Ok(wanted) => return Ok(wanted),
            Err(error) => error,
        };
        let in_force = self
            .in_force(state)
            .filter(|tree| tree.head().id != newest.head().id);
        let Some(in_force) = in_force else {
            return Err(error);
        };
        let Ok(wanted) = wanted(&in_force, tray) else {
            return Err(error);
        };
        REPOSITORY.failed(
            format_args!("head {}: {}", short(newest.head().id), Chain(&error)),
            format_args!(
                "go on with head {}, which was in force",
                short(in_force.head().id)
            ),
        );
        Ok(wanted)
    }

    /// A connection to the server of the rack repository.
    pub(crate) fn connect(&self) -> Result<Remote, RepositoryError> {
        Ok(Remote::new(&self.remote)?)
    }

    /// A connection to another repository, with the same authorities and no credentials: those are for the rack's own.
    pub(crate) fn connect_to(&self, url: &str) -> Result<Remote, RepositoryError> {
        let mut config = self.remote.clone();
        config.url = url.parse()?;
        config.credentials = Default::default();
        Ok(Remote::new(&config)?)
    }

    /// The trust root in the image.
    pub(crate) fn baked(&self) -> &TrustRoot {
        &self.root
    }

    /// The trust root in force.
    pub(crate) fn root(&self) -> &Verified<TrustRoot> {
        self.tree
            .as_ref()
            .map_or(&self.root, |tree| &tree.head().root)
    }

    /// Looks at the server and accepts a newer head, if there is one and the rules allow it; one that is far away in stretches. Each is
    /// kept, and the floors raised, before this goes on, so that nothing is done twice.
    pub(crate) fn update(
        &mut self,
        remote: &mut Remote,
        state: &mut State,
        progress: &mut dyn Progress,
    ) -> Result<(), RepositoryError> {
        let mut way = Way::default();
        while self.stretch(&mut way, remote, state, progress)? {}
        Ok(())
    }

    /// Accepts the head, or a commit on the way to it: then there is more.
    fn stretch(
        &mut self,
        way: &mut Way,
        remote: &mut Remote,
        state: &mut State,
        progress: &mut dyn Progress,
    ) -> Result<bool, RepositoryError> {
        let known = self.tree.as_ref().map(RackTree::snapshot);
        let outcome = racklet_fetch::rack::fetch_along(
            way,
            remote,
            &self.branch,
            known,
            &Limits::RACK,
            progress,
        )?;
        let Outcome::New(fetched) = outcome else {
            if let Some(tree) = &self.tree {
                let head = tree.head();
                REPOSITORY.say(format_args!("head {} is the accepted one", short(head.id)));
            }
            return Ok(false);
        };
        let accepted = match &self.tree {
            Some(tree) => tree.accepted(),
            None => Accepted::nothing(self.root.clone(), state.floors().clone()),
        };
        let tree = fetched.verify(&accepted)?;
        let commits = tree.head().generation.saturating_sub(accepted.generation);
        REPOSITORY.say(format_args!(
            "{} {} accepted, signed under trust root {}{}",
            if fetched.on_the_way() {
                "on the way: commit"
            } else {
                "head"
            },
            short(tree.head().id),
            tree.head().root.version(),
            if commits > 1 {
                format!(", {commits} new commits")
            } else {
                String::new()
            },
        ));
        match self.store.keep(&tree) {
            Ok(()) => {
                if let Err(error) = state.raise(&tree.head().floors()) {
                    REPOSITORY.failed(Chain(&error), "go on; the floors hold for this boot");
                }
            }
            Err(error) => {
                REPOSITORY.failed(
                    format_args!("keep the head: {error}"),
                    "go on; the next boot fetches it again",
                );
                // Floors on the card that no head there reaches would leave a boot without a server with nothing to follow.
                state.hold(&tree.head().floors());
            }
        }
        self.tree = Some(tree);
        Ok(fetched.on_the_way())
    }
}

/// What the accepted head asks of this tray.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The payload to boot.
    pub(crate) payload: Pin,
    /// Images of its workloads, which the cache must not give up for the payload.
    pub(crate) images: Vec<Digest>,
}

/// The digest of a pinned manifest.
pub(crate) fn digest_of(pin: &Pin) -> Digest {
    Hex(pin.manifest.bytes())
}

/// What a head says this tray should boot.
fn wanted(tree: &RackTree, tray: &TrayConfig) -> Result<Wanted, NoPin> {
    let files = tree
        .files()
        .map_err(|error| NoPin::Tree(Chain(error).to_string()))?;
    let state = racklet_rack::load(files).map_err(|problems: Problems| {
        let first = problems
            .list()
            .first()
            .map_or_else(String::new, ToString::to_string);
        NoPin::Problems(problems.list().len(), first)
    })?;
    let (said, meant) = (state.id.to_string(), tree.head().root.rack().to_string());
    if said != meant {
        return Err(NoPin::OtherRack(said, meant));
    }
    let name = state.trays.keys().find(|name| name.as_str() == tray.tray);
    let unknown = || NoPin::NoRelease(tray.tray.clone());
    let desired =
        racklet_rack::resolve(&state, name.ok_or_else(unknown)?).map_err(NoPin::UnknownTray)?;
    let images = desired
        .workloads
        .values()
        .map(|workload| digest_of(&workload.rootfs))
        .collect();
    Ok(Wanted {
        payload: desired.release.ok_or_else(unknown)?,
        images,
    })
}

/// As much of a commit's name as people look at.
pub(crate) fn short(id: racklet_trust::commit::ObjectId) -> String {
    id.to_string().chars().take(12).collect()
}
