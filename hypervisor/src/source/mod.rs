// SPDX-License-Identifier: Apache-2.0
//! The repository thread: looks at the rack repository, and brings what it asks for.
//!
//! ```text
//! wait ─> list one ref ─> the head in force? ──────────────────────────────────────────────> images ─> release ─> wait
//!                              │ another one                                                    ^
//!                              └─> fetch ─> verify ─> accept: keep, raise ─> parse, check ─> put in force: keep, apply
//!                                            │ refused                         │ refused
//!                                            └─────────────────────────────────┴─> say why; what was in force stays so
//! ```
//!
//! Two heads are kept: the one accepted last, behind which nothing goes back, and the one last in force, with which a restart begins
//! when the files of the other are at fault.

mod bring;
mod pace;
mod turns;

use crate::console::{Once, say};
use crate::handoff::{self, Given};
use crate::init;
use crate::options::Options;
use crate::shared::{Shared, unix_time};
use crate::work::{Order, Orders};
use bring::Brought;
use pace::Pace;
use racklet_api::handoff::Head;
use racklet_api::hypervisor::Rejection;
use racklet_api::init::{Op, Response};
use racklet_fetch::cache::Cache;
use racklet_fetch::disk::Files;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::Silent;
use racklet_fetch::rack::{
    FetchError, Outcome, RackStore, RackTree, Rejected, ReopenError, Way, fetch_along,
};
use racklet_fetch::remote::{Remote, RemoteConfig, RemoteError};
use racklet_fetch::tls::{SystemClock, TlsError};
use racklet_fetch::url::UrlError;
use racklet_rack::{Name, Problems, TrayDesired, UnknownTray};
use racklet_tell::error::chain;
use racklet_trust::commit::ObjectId;
use racklet_trust::floors::Floors;
use racklet_trust::history::{self, Accepted};
use racklet_trust::{TrustRoot, Verified};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A refused head is judged again after this long: approvals by further keys may have come meanwhile.
const JUDGE_AGAIN: Duration = Duration::from_secs(30);

/// One pack of the rack repository takes no longer: text that people write. What it is asked for meanwhile waits.
const LONGEST_PACK: Duration = Duration::from_secs(300);

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
}

/// Why a head is not put in force.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    History(#[from] Rejected),
    #[error("{0}")]
    Tree(String),
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
    /// What the next head must follow.
    accepted: Option<RackTree>,
    way: Way,
    in_force: Option<Head>,
    /// Which head the card holds as the one in force.
    kept_in_force: Option<ObjectId>,
    desired: Option<TrayDesired>,
    refused: Option<(String, Instant)>,
    trouble: Once,
    keep_trouble: Once,
    init_trouble: Once,
    health: Option<(bool, String)>,
    reached: bool,
    /// Whether the card took no writes when it was last looked at; nothing before `init` has said so.
    read_only: Option<bool>,
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
            way: Way::default(),
            in_force: None,
            kept_in_force: None,
            desired: None,
            refused: None,
            trouble: Once::default(),
            keep_trouble: Once::default(),
            init_trouble: Once::default(),
            health: None,
            reached: false,
            read_only: None,
        })
    }

    /// Runs until the process ends.
    pub(crate) fn run(mut self) -> ! {
        self.reopen();
        let mut pace = Pace::default();
        loop {
            self.shared.heed();
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
            self.doubt_a_lost_card();
            if self.bring() {
                continue;
            }
            let poll = self
                .desired
                .as_ref()
                .map_or(Duration::from_secs(15), |d| d.poll);
            let wait = pace.next(poll);
            self.pause(self.brought.next().map_or(wait, |due| due.min(wait)));
        }
    }

    /// A card that stops taking writes has often stopped being read too: images are looked at again, and those that cannot be
    /// read are fetched into memory. What runs goes on meanwhile.
    fn doubt_a_lost_card(&mut self) {
        let now = self
            .shared
            .view()
            .state
            .as_ref()
            .map(|state| state.read_only);
        let before = std::mem::replace(&mut self.read_only, now);
        if before == Some(false) && now == Some(true) {
            say("the card takes no more writes: looking at every image again");
            self.brought.doubt();
            self.shared.view().ready.clear();
        }
    }

    /// Waits for a nudge or so long. While the repository was never reached, a change of the tray's own network ends it: this
    /// system starts before it has an address, and the first look fails then.
    fn pause(&self, longest: Duration) {
        if self.reached {
            self.shared.wait(longest);
            return;
        }
        let lease = self.options.run.join("netd/lease.json");
        let written = || {
            std::fs::metadata(&lease)
                .and_then(|file| file.modified())
                .ok()
        };
        let (before, end) = (written(), Instant::now() + longest);
        while written() == before {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.shared.wait(left.min(Duration::from_millis(500))) {
                return;
            }
        }
    }

    /// Begins with what is kept: the server may be away for long.
    fn reopen(&mut self) {
        let floors = self.floors();
        let (root, limits) = (&self.given.baked, &Limits::RACK);
        let reopened = |reopened: Result<Option<RackTree>, ReopenError>| {
            reopened.unwrap_or_else(|error| {
                say(&format!(
                    "a kept rack repository is not used: {}",
                    chain(&error)
                ));
                None
            })
        };
        let newest = reopened(self.store.reopen(root, &floors, limits));
        let in_force = reopened(self.store.reopen_in_force(root, &floors, limits));
        self.kept_in_force = in_force.as_ref().map(|tree| tree.head().id);
        let look = newest.map(|tree| {
            self.accept(tree);
            self.put_in_force()
        });
        if look != Some(Look::Accepted)
            && let Some(tree) = in_force
        {
            match self.judge(&tree) {
                Ok(desired) => self.apply(told(tree.head()), desired),
                // Another system put it in force, whose rules were others.
                Err(refusal) => say(&format!(
                    "{} is in force no more: {}",
                    self.shown(&told(tree.head())),
                    chain(&refusal)
                )),
            }
            if self.accepted.is_none() {
                self.accept(tree);
            }
        }
        if let Some(head) = &self.in_force {
            say(&format!("going on with {}", self.shown(head)));
        }
        if self.accepted.is_none() {
            say("no rack repository is kept here that can be used; fetching it");
            if self.given.root.version() >= floors.trust_root {
                // Whoever wants to know why nothing runs is answered all the same.
                self.shared.view().root = Some(Arc::new((*self.given.root).clone()));
            }
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
            None => Remote::new(&self.remote_config()?)?,
        };
        let before = remote.received();
        let look = self.look_at(&mut remote);
        self.shared.view().received += remote.received().saturating_sub(before);
        if look.is_ok() {
            self.remote = Some(remote);
        }
        look
    }

    /// How the rack repository's server is spoken to.
    fn remote_config(&self) -> Result<RemoteConfig, UrlError> {
        let mut config = RemoteConfig::of_tray(&self.given.tray.repository, Arc::new(SystemClock))?;
        config.timeouts.pack = LONGEST_PACK;
        Ok(config)
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
        let is_listed = |tree: &RackTree| tree.head().id.to_string() == listed;
        if self.accepted.as_ref().is_some_and(is_listed) {
            let commit = |head: &Head| head.commit == listed;
            return Ok(match &self.refused {
                _ if self.in_force.as_ref().is_some_and(commit) => Look::Unchanged,
                Some((refused, _)) if *refused == listed => Look::StillRejected,
                _ => self.put_in_force(),
            });
        }
        if let Some((head, since)) = &self.refused
            && *head == listed
            && since.elapsed() < JUDGE_AGAIN
        {
            return Ok(Look::StillRejected);
        }
        // A head that is far away is come to in stretches.
        loop {
            let snapshot = self.accepted.as_ref().map(RackTree::snapshot);
            let way = &mut self.way;
            let fetched = match fetch_along(way, remote, &branch, snapshot, &limits, &mut Silent)? {
                Outcome::New(fetched) => fetched,
                Outcome::Unchanged => return Ok(self.put_in_force()),
            };
            let before = match &self.accepted {
                Some(tree) => tree.accepted(),
                None => Accepted::nothing(self.given.baked.clone(), self.floors()),
            };
            let tree = match fetched.verify(&before) {
                Ok(tree) => tree,
                Err(rejected) => {
                    self.refuse(Some(listed), &rejected.into());
                    return Ok(Look::Rejected);
                }
            };
            say(&format!("accepted {}", self.shown(&told(tree.head()))));
            // It holds for as long as this daemon and `init` run, even when the card does not take it.
            let kept = self.store.keep(&tree);
            let on_card = kept.is_ok();
            self.tell_kept("accepted", kept);
            self.raise(&tree, on_card);
            self.accept(tree);
            if !fetched.on_the_way() {
                return Ok(self.put_in_force());
            }
        }
    }

    /// Nothing that is not behind this head is followed from now on, and nobody counts whom its trust root does not name.
    fn accept(&mut self, tree: RackTree) {
        let before = self.root().version();
        let is_first = self.accepted.replace(tree).is_none();
        let root = self.root();
        if !is_first && before != root.version() {
            self.brought.doubt();
            self.shared.view().ready.clear();
        }
        self.shared.view().root = Some(Arc::new((*root).clone()));
    }

    /// The newest trust root that is known: by it payloads, images and the API's users are judged.
    pub(super) fn root(&self) -> Verified<TrustRoot> {
        match &self.accepted {
            Some(tree) if tree.head().root.version() > self.given.root.version() => {
                tree.head().root.clone()
            }
            _ => self.given.root.clone(),
        }
    }

    /// Does what the accepted head wants, unless its files are at fault.
    fn put_in_force(&mut self) -> Look {
        let Some(tree) = &self.accepted else {
            return Look::Unchanged;
        };
        match self.judge(tree) {
            Err(refusal) => {
                let commit = tree.head().id.to_string();
                self.refuse(Some(commit), &refusal);
                Look::Rejected
            }
            Ok(desired) => {
                let head = tree.head().clone();
                if self.kept_in_force != Some(head.id) {
                    let kept = self.store.keep_in_force(tree);
                    self.kept_in_force = kept.is_ok().then_some(head.id);
                    self.tell_kept("in force", kept);
                }
                self.refused = None;
                self.shared.view().rejected = None;
                self.apply(told(&head), desired);
                Look::Accepted
            }
        }
    }

    fn tell_kept(&mut self, what: &str, kept: io::Result<()>) {
        match kept {
            Ok(()) => self.keep_trouble.clear(),
            Err(error) => self.keep_trouble.say(&format!(
                "the head {what} is not kept on the card, and goes on from memory: {error}"
            )),
        }
    }

    /// What the files of a verified head want from this tray.
    fn judge(&self, tree: &RackTree) -> Result<TrayDesired, Refusal> {
        let files = tree.files().map_err(|error| Refusal::Tree(chain(error)))?;
        let state = racklet_rack::load(files)?;
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
        Ok(racklet_rack::resolve(&state, &tray)?)
    }

    fn apply(&mut self, head: Head, desired: TrayDesired) {
        let generation = head.generation;
        self.shared.view().head = Some(head.clone());
        self.in_force = Some(head);
        self.desired = Some(desired.clone());
        self.orders.give(Order::Want {
            generation,
            desired: Box::new(desired),
        });
    }

    /// The workloads of the head in force, after a drain that led to nothing.
    fn want_again(&mut self) {
        if let (Some(head), Some(desired)) = (&self.in_force, &self.desired) {
            self.orders.give(Order::Want {
                generation: head.generation,
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
    fn raise(&mut self, tree: &RackTree, kept: bool) {
        let op = Op::Raise {
            head: told(tree.head()),
            trust_root: tree.head().root.version(),
            time: tree.head().time,
            in_memory: !kept,
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

    /// A head as the console shows it.
    fn shown(&self, head: &Head) -> String {
        format!(
            "commit {} (generation {}) of {}",
            &head.commit[..head.commit.len().min(10)],
            head.generation,
            self.given.tray.repository.branch
        )
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

/// A head as programs tell it each other.
fn told(head: &history::Head) -> Head {
    Head {
        commit: head.id.to_string(),
        generation: head.generation,
    }
}
