// SPDX-License-Identifier: Apache-2.0
//! The repository thread: looks at the rack repository, and brings what it asks for.
//!
//! ```text
//! wait ─> list one ref ─> the head in force? ──────────────────────────────> images ─> release ─> wait
//!                              │ another one                                    ^
//!                              └─> fetch ─> verify ─> parse, check ─> keep ─> apply
//!                                            │ refused     │ refused
//!                                            └─────────────┴─> say why; what was in force stays so
//! ```
//!
//! What is kept is what was applied last: a head whose files are at fault never becomes the one that a restart begins with.

mod bring;
mod pace;

use crate::console::{Once, say};
use crate::handoff::{self, Given};
use crate::init;
use crate::options::Options;
use crate::shared::{Shared, unix_time};
use crate::work::{Order, Orders};
use bring::Brought;
use pace::Pace;
use racklet_api::boot::Head;
use racklet_api::error::chain;
use racklet_api::http::Rejection;
use racklet_api::init::{Op, Response};
use racklet_api::rack::{self, Name, Problems, TrayDesired, UnknownTray};
use racklet_fetch::cache::Cache;
use racklet_fetch::disk::Files;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::Silent;
use racklet_fetch::rack::{FetchError, Outcome, RackStore, RackTree, Rejected};
use racklet_fetch::remote::{Remote, RemoteConfig, RemoteError};
use racklet_fetch::tls::{SystemClock, TlsError};
use racklet_fetch::url::UrlError;
use racklet_trust::floors::Floors;
use racklet_trust::history::Accepted;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A refused head is judged again after this long: approvals by further keys may have come meanwhile.
const JUDGE_AGAIN: Duration = Duration::from_secs(30);

/// Why there is no answer from the repository.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the repository's address")]
    Url(#[from] UrlError),
    #[error("set up TLS")]
    Tls(#[from] TlsError),
    #[error("list {0}")]
    List(String, #[source] RemoteError),
    #[error("fetch the rack repository")]
    Fetch(#[from] FetchError),
    #[error("keep the accepted head")]
    Keep(#[source] io::Error),
}

/// Why a head is not put in force.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    History(#[from] Rejected),
    #[error("{}", first(.0))]
    Files(#[from] Problems),
    #[error("rack.yaml: spec.id is {found}, this tray belongs to rack {expected}")]
    OtherRack { found: String, expected: String },
    #[error(transparent)]
    Tray(#[from] UnknownTray),
}

/// The first problem, and how many more there are.
fn first(problems: &Problems) -> String {
    let list = problems.list();
    match list {
        [] => String::new(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}

/// How a look ended, when the repository answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Unchanged,
    Accepted,
    Rejected,
    StillRejected,
}

impl Look {
    fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::StillRejected => "still-rejected",
        }
    }
}

pub(crate) struct Source {
    options: Options,
    given: Given,
    shared: Arc<Shared>,
    orders: Orders,
    store: RackStore<Files>,
    cache: Cache<Files>,
    brought: Brought,
    remote: Option<Remote>,
    /// The head in force: what the next one must follow.
    accepted: Option<RackTree>,
    desired: Option<TrayDesired>,
    refused: Option<(String, Instant)>,
    trouble: Once,
    init_trouble: Once,
    health: Option<(bool, String)>,
    reached: bool,
}

impl Source {
    pub(crate) fn open(
        options: Options,
        given: Given,
        shared: Arc<Shared>,
        orders: Orders,
    ) -> io::Result<Self> {
        let store = RackStore::new(Files, options.state.join("git/rack"));
        let cache = Cache::open(Files, options.state.join("cache"))?;
        Ok(Self {
            options,
            given,
            shared,
            orders,
            store,
            cache,
            brought: Brought::default(),
            remote: None,
            accepted: None,
            desired: None,
            refused: None,
            trouble: Once::default(),
            init_trouble: Once::default(),
            health: None,
            reached: false,
        })
    }

    /// Runs until the process ends.
    pub(crate) fn run(mut self) -> ! {
        self.reopen();
        let mut pace = Pace::default();
        loop {
            match self.look() {
                Ok(look) => {
                    self.note(look);
                    pace.success();
                }
                Err(error) => {
                    self.unreachable(&error);
                    pace.failure();
                }
            }
            self.report_health();
            if self.bring() {
                continue;
            }
            let poll = self
                .desired
                .as_ref()
                .map_or(Duration::from_secs(15), |d| d.poll);
            let wait = pace.next(poll);
            self.shared
                .wait(self.brought.next().map_or(wait, |due| due.min(wait)));
        }
    }

    /// Begins with what was in force before: the server may be away for long.
    fn reopen(&mut self) {
        let floors = self.floors();
        match self.store.reopen(&self.given.root, &floors, &Limits::RACK) {
            Ok(None) => say("no rack repository is kept here yet"),
            Ok(Some(tree)) => match self.judge(&tree) {
                Ok(desired) => {
                    say(&format!(
                        "going on with {} of {}",
                        short(&tree),
                        self.given.tray.repository.branch
                    ));
                    self.apply(tree, desired);
                }
                Err(refusal) => {
                    self.refuse(Some(tree.head().id.to_string()), &refusal);
                    self.accepted = Some(tree);
                }
            },
            Err(error) => say(&format!(
                "the kept rack repository is not used: {}; fetching it anew",
                chain(&error)
            )),
        }
    }

    /// What was accepted before, by the bootstrap or by a daemon before this one: `init` remembers it for as long as the tray runs,
    /// whatever became of the card.
    fn floors(&mut self) -> Floors {
        let mut floors = self.given.floors();
        match init::ask(&self.options.socket("init"), Op::Status) {
            Ok(Response { status, .. }) => {
                if let Some(known) = status.and_then(|status| status.floors) {
                    let known = handoff::floors(known.head.as_ref(), known.trust_root, known.time);
                    floors.raise(&known);
                }
            }
            Err(error) => self.init_trouble.say(&format!(
                "ask for the floors: {}; going by those of the bootstrap",
                chain(&error)
            )),
        }
        floors
    }

    fn look(&mut self) -> Result<Look, LookError> {
        let mut remote = match self.remote.take() {
            Some(remote) => remote,
            None => Remote::new(&RemoteConfig::of_tray(
                &self.given.tray.repository,
                Arc::new(SystemClock),
            )?)?,
        };
        let before = remote.received();
        let look = self.look_at(&mut remote);
        self.shared.view().received += remote.received().saturating_sub(before);
        if look.is_ok() {
            self.remote = Some(remote);
        }
        look
    }

    fn look_at(&mut self, remote: &mut Remote) -> Result<Look, LookError> {
        let branch = format!("refs/heads/{}", self.given.tray.repository.branch);
        let limits = Limits::RACK;
        // One line of answer is all that most looks cost.
        let listed = remote
            .find(&branch, &limits)
            .map_err(|error| LookError::List(branch.clone(), error))?;
        let listed = listed
            .ok_or_else(|| FetchError::NoBranch(branch.clone()))?
            .to_string();
        if self
            .accepted
            .as_ref()
            .is_some_and(|tree| tree.head().id.to_string() == listed)
            && self.desired.is_some()
        {
            return Ok(Look::Unchanged);
        }
        if let Some((head, since)) = &self.refused
            && *head == listed
            && since.elapsed() < JUDGE_AGAIN
        {
            return Ok(Look::StillRejected);
        }
        let snapshot = self.accepted.as_ref().map(RackTree::snapshot);
        let fetched =
            match racklet_fetch::rack::fetch(remote, &branch, snapshot, &limits, &mut Silent)? {
                Outcome::New(fetched) => fetched,
                Outcome::Unchanged => return Ok(Look::StillRejected),
            };
        let before = match &self.accepted {
            Some(tree) => tree.accepted(),
            None => Accepted::nothing(self.given.root.clone(), self.floors()),
        };
        let tree = match fetched.verify(&before) {
            Ok(tree) => tree,
            Err(rejected) => {
                self.refuse(Some(listed), &rejected.into());
                return Ok(Look::Rejected);
            }
        };
        match self.judge(&tree) {
            Err(refusal) => {
                self.refuse(Some(listed), &refusal);
                Ok(Look::Rejected)
            }
            Ok(desired) => {
                self.store.keep(&tree).map_err(LookError::Keep)?;
                self.raise(&tree);
                say(&format!(
                    "accepted {} of {}",
                    short(&tree),
                    self.given.tray.repository.branch
                ));
                self.apply(tree, desired);
                Ok(Look::Accepted)
            }
        }
    }

    /// What the files of a verified head want from this tray.
    fn judge(&self, tree: &RackTree) -> Result<TrayDesired, Refusal> {
        let state = rack::load(tree.files())?;
        if state.id.to_string() != self.given.tray.rack {
            return Err(Refusal::OtherRack {
                found: state.id.to_string(),
                expected: self.given.tray.rack.clone(),
            });
        }
        for warning in &state.warnings {
            say(&format!("warning: {warning}"));
        }
        let tray: Name = self
            .given
            .tray
            .tray
            .parse()
            .expect("a tray's configuration holds a checked name");
        Ok(rack::resolve(&state, &tray)?)
    }

    fn apply(&mut self, tree: RackTree, desired: TrayDesired) {
        let head = Head {
            commit: tree.head().id.to_string(),
            generation: tree.head().generation,
        };
        let before = self
            .accepted
            .as_ref()
            .map(|tree| tree.head().root.version());
        if before.is_some_and(|version| version != tree.head().root.version()) {
            self.brought.doubt();
            self.shared.view().ready.clear();
        }
        let mut view = self.shared.view();
        view.root = Some(Arc::new((*tree.head().root).clone()));
        view.rejected = None;
        let generation = head.generation;
        view.head = Some(head);
        drop(view);
        self.refused = None;
        self.accepted = Some(tree);
        self.desired = Some(desired.clone());
        self.orders.give(Order::Want {
            generation,
            desired: Box::new(desired),
        });
    }

    /// The workloads of the head in force, after a drain that led to nothing.
    fn want_again(&mut self) {
        if let (Some(tree), Some(desired)) = (&self.accepted, &self.desired) {
            self.orders.give(Order::Want {
                generation: tree.head().generation,
                desired: Box::new(desired.clone()),
            });
        }
    }

    fn refuse(&mut self, commit: Option<String>, refusal: &Refusal) {
        let reason = chain(refusal);
        let problems = match refusal {
            Refusal::Files(problems) => problems.list().to_vec(),
            _ => Vec::new(),
        };
        let mut view = self.shared.view();
        let since = match &view.rejected {
            Some(before) if before.commit == commit => before.since,
            _ => {
                let name = commit
                    .as_deref()
                    .map_or("the head", |c| &c[..c.len().min(10)]);
                say(&format!(
                    "refused {name}: {reason}; what was in force stays so"
                ));
                for problem in problems.iter().skip(1) {
                    say(&format!("refused {name}: {problem}"));
                }
                unix_time()
            }
        };
        view.rejected = Some(Rejection {
            commit: commit.clone(),
            since,
            reason,
            problems,
        });
        drop(view);
        self.refused = commit.map(|commit| (commit, Instant::now()));
    }

    fn note(&mut self, look: Look) {
        self.trouble.clear();
        self.reached = true;
        let mut view = self.shared.view();
        *view.looks.entry(look.word()).or_default() += 1;
        view.repository.reached = Some(unix_time());
        view.repository.error = None;
        if look == Look::Unchanged && view.rejected.take().is_some() {
            say("the refused head was taken back");
        }
    }

    fn unreachable(&mut self, error: &LookError) {
        let text = chain(error);
        self.trouble
            .say(&format!("the rack repository: {text}; trying again"));
        let mut view = self.shared.view();
        *view.looks.entry("failed").or_default() += 1;
        view.repository.error = Some(text);
    }

    /// `init` keeps the floors: what was accepted is never undercut again, not even from a wiped store.
    fn raise(&mut self, tree: &RackTree) {
        let op = Op::Raise {
            head: Head {
                commit: tree.head().id.to_string(),
                generation: tree.head().generation,
            },
            trust_root: tree.head().root.version(),
            time: tree.head().time,
        };
        self.tell_init(op);
    }

    /// The first good reconcile is what makes a boot a good one. A boot whose bootstrap reached the repository while this
    /// system cannot is not good; when the bootstrap could not either, the server is the likelier reason.
    fn report_health(&mut self) {
        let excused = self.given.handoff.payload.fallback.is_some();
        let health = match (&self.desired, self.reached || excused) {
            (Some(_), true) => (true, "the rack repository is in force".to_owned()),
            (Some(_), false) => (
                false,
                "the rack repository has not been reached since the start".to_owned(),
            ),
            (None, _) => (false, "no rack repository is in force".to_owned()),
        };
        if self.health.as_ref() == Some(&health) {
            return;
        }
        let told = self.tell_init(Op::Health {
            service: "hypervisor".to_owned(),
            healthy: health.0,
            message: health.1.clone(),
        });
        if told {
            self.health = Some(health);
        }
    }

    fn tell_init(&mut self, op: Op) -> bool {
        match init::ask(&self.options.socket("init"), op) {
            Ok(_) => {
                self.init_trouble.clear();
                true
            }
            Err(error) => {
                self.init_trouble
                    .say(&format!("{}; trying again", chain(&error)));
                false
            }
        }
    }
}

fn short(tree: &RackTree) -> String {
    let id = tree.head().id.to_string();
    format!(
        "commit {} (generation {})",
        &id[..id.len().min(10)],
        tree.head().generation
    )
}
