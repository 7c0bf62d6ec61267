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

mod bootstrap;
mod bring;
mod floors;
mod pace;
mod release;
mod turns;

use crate::console::{Once, say};
use crate::handoff::Given;
use crate::images::Images;
use crate::options::Options;
use crate::shared::{Shared, unix_time};
use crate::work::{Order, Orders};
use bring::Brought;
use floors::{Init, told};
use pace::Pace;
use racklet_api::handoff::Head;
use racklet_api::hypervisor::Rejection;
use racklet_api::init::Op;
use racklet_fetch::disk::Files;
use racklet_fetch::progress::Silent;
use racklet_fetch::rack::RackTree;
use racklet_fetch::remote::Remote;
use racklet_fetch::tls::SystemClock;
use racklet_follow::{AtFault, FollowError, Follower, Keeper as _, Place, Round, Shelf, desired};
use racklet_rack::{Problem, TrayDesired};
use racklet_tell::error::chain;
use racklet_trust::commit::ObjectId;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A refused head is judged again after this long: approvals by further keys may have come meanwhile.
const JUDGE_AGAIN: Duration = Duration::from_secs(30);

/// Neither does a server prepare one pack of the rack repository for longer, nor does the pack take longer: text that people write. What it is asked for meanwhile waits.
const LONGEST_PACK: Duration = Duration::from_secs(300);

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
    images: Arc<Images>,
    orders: Orders,
    follower: Follower<Files>,
    shelf: Shelf<Files>,
    init: Init,
    brought: Brought,
    /// The conversation that is kept, and with which place of the rack it is.
    remote: Option<(Place, Remote)>,
    /// Until when the rack's own server is left alone: it refused us, or asked for it.
    held: Option<Instant>,
    in_force: Option<Head>,
    /// Which head the card holds as the one in force.
    kept_in_force: Option<ObjectId>,
    desired: Option<TrayDesired>,
    refused: Option<(ObjectId, Instant)>,
    trouble: Once,
    /// What was said of plain files.
    beside: Once,
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
        images: Arc<Images>,
        orders: Orders,
    ) -> io::Result<Self> {
        let clock = Arc::new(SystemClock);
        let folder = options.state.join("git/rack");
        let roots = [given.baked.clone(), given.root.clone()];
        let follower = Follower::new(&given.tray, clock, Files, folder, roots);
        let mut follower = follower.map_err(|error| io::Error::other(chain(&error)))?;
        follower.config.timeouts.pack = LONGEST_PACK;
        follower.config.timeouts.thinking = LONGEST_PACK;
        let shelf = Shelf::open(Files, options.state.join("cache"), &given.tray.board)?;
        let branch = given.tray.repository.branch.clone();
        let init = Init::new(
            options.socket("init"),
            given.floors(),
            branch,
            Arc::clone(&shared),
        );
        Ok(Self {
            options,
            given,
            shared,
            images,
            orders,
            follower,
            shelf,
            init,
            brought: Brought::default(),
            remote: None,
            held: None,
            in_force: None,
            kept_in_force: None,
            desired: None,
            refused: None,
            trouble: Once::default(),
            beside: Once::default(),
            health: None,
            reached: false,
            read_only: None,
        })
    }

    /// Runs until the process ends.
    pub(crate) fn run(mut self) -> ! {
        self.reopen();
        let mut pace = Pace::default();
        let mut asked = true;
        loop {
            asked |= self.shared.is_nudged();
            self.shared.heed();
            if asked || !pace.holds(Instant::now()) {
                match self.look(asked) {
                    Ok(look) => {
                        self.note(look);
                        pace.success();
                    }
                    Err(error) => {
                        self.unreachable(&error);
                        pace.failure(error.hold(), Instant::now());
                    }
                }
                self.held = pace.held();
            }
            asked = false;
            self.init.tell_again();
            self.report_health();
            self.doubt_a_lost_card();
            if self.bring() {
                continue;
            }
            let poll = self
                .desired
                .as_ref()
                .map_or(Duration::from_secs(15), |d| d.poll);
            let wait = pace.next(poll, Instant::now());
            asked = self.pause(self.brought.next().map_or(wait, |due| due.min(wait)));
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
            self.images.suspect_all();
            self.doubt();
        }
    }

    /// What was verified is looked at again before it is used again.
    fn doubt(&mut self) {
        self.brought.doubt();
        self.images.doubt();
    }

    /// Waits for a nudge or so long. While the repository was never reached, a change of the tray's own network ends it: this
    /// system starts before it has an address, and the first look fails then. Says whether it was ended.
    fn pause(&self, longest: Duration) -> bool {
        if self.reached {
            return self.shared.wait(longest);
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
            if left.is_zero() {
                return false;
            }
            if self.shared.wait(left.min(Duration::from_millis(500))) {
                return true;
            }
        }
        true
    }

    /// Begins with what is kept: the server may be away for long.
    fn reopen(&mut self) {
        let not_used = |error: &dyn Error| {
            say(&format!(
                "a kept rack repository is not used: {}",
                chain(error)
            ));
        };
        let floors = self.init.floors();
        let faults = self.follower.reopen(&floors);
        faults.iter().for_each(|error| not_used(error));
        let in_force = self.follower.in_force(&floors).unwrap_or_else(|error| {
            // With nothing accepted it was asked for already.
            if self.follower.accepted().is_some() {
                not_used(&error);
            }
            None
        });
        self.kept_in_force = in_force.as_ref().map(|tree| tree.head().id);
        let newest = self.follower.accepted().map(|tree| tree.head().id);
        if newest.is_some() {
            self.show_root();
            let look = self.put_in_force();
            if look != Look::Accepted
                && let Some(tree) = in_force.filter(|tree| Some(tree.head().id) != newest)
            {
                self.go_back_to(&tree);
            }
        } else {
            say("no rack repository is kept here that can be used; fetching it");
            if self.follower.root().version() >= floors.trust_root {
                // Whoever wants to know why nothing runs is answered all the same.
                self.show_root();
            }
        }
        if let Some(head) = &self.in_force {
            say(&format!("going on with {}", self.init.shown(head)));
        }
    }

    /// The head that was in force before the one accepted last, whose files are at fault.
    fn go_back_to(&mut self, tree: &RackTree) {
        let head = told(tree.head());
        match self.judge(tree) {
            Ok(desired) => self.apply(head, desired),
            // Another system put it in force, whose rules were others.
            Err(fault) => say(&format!(
                "{} is in force no more: {}",
                self.init.shown(&head),
                chain(&fault)
            )),
        }
    }

    /// Looks at the rack's own server and, where that brings nothing, at its mirrors. Who `asked` wants to hear it from Git itself.
    fn look(&mut self, asked: bool) -> Result<Look, FollowError> {
        let mut round = Round::default();
        while let Some((place, _)) = self.follower.next(&mut round) {
            match self.look_there(place, asked) {
                Ok(look) => return Ok(look),
                Err(error) => {
                    let url = self.follower.url_of(place).to_string();
                    round.failed(place, url, error)?;
                }
            }
        }
        Err(round.over())
    }

    fn look_there(&mut self, place: Place, asked: bool) -> Result<Look, FollowError> {
        let mut remote = match self.remote.take() {
            Some((kept, remote)) if kept == place => remote,
            _ => self.follower.connect(place)?,
        };
        let before = remote.received();
        let look = match !asked && self.is_quiet(&mut remote, place)? {
            true => Ok(Look::Unchanged),
            false => self.look_at(&mut remote, place),
        };
        self.tell_beside(&remote);
        self.shared.view().received += remote.received().saturating_sub(before);
        if look.is_ok() {
            self.remote = Some((place, remote));
        }
        look
    }

    /// Whether a plain file says that the head in force is the newest. One that was refused is asked for again: it may be good by now.
    fn is_quiet(&self, remote: &mut Remote, place: Place) -> Result<bool, FollowError> {
        let accepted = self.follower.accepted().map(|tree| tree.head().id);
        let in_force = self.in_force.as_ref().map(|head| &head.commit);
        let settled = accepted.is_some_and(|it| in_force == Some(&it.to_string()));
        Ok(settled && self.refused.is_none() && self.follower.is_quiet(remote, place)?)
    }

    /// Nothing hangs on plain files, but whoever set them up wants to know.
    pub(super) fn tell_beside(&self, remote: &Remote) {
        if let Some(error) = remote.trouble_beside() {
            let text = chain(error);
            (self.beside).say(&format!(
                "plain files beside the repository: {text}; Git is asked instead"
            ));
        }
    }

    fn look_at(&mut self, remote: &mut Remote, place: Place) -> Result<Look, FollowError> {
        let listed = self.follower.look(remote, place)?;
        let accepted = self.follower.accepted();
        if accepted.is_some_and(|tree| tree.head().id == listed) {
            let name = listed.to_string();
            return Ok(match &self.refused {
                _ if self.in_force.as_ref().is_some_and(|it| it.commit == name) => Look::Unchanged,
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
        let before = accepted.map(|tree| tree.head().root.version());
        let (follower, init) = (&mut self.follower, &mut self.init);
        let followed = follower.follow(remote, listed, init, &mut Silent);
        // Commits on the way count, too, whatever became of the rest. Nobody counts whom the new root does not name.
        if let Some(tree) = self.follower.accepted() {
            if before.is_some_and(|before| before != tree.head().root.version()) {
                self.doubt();
            }
            self.show_root();
        }
        match followed {
            Ok(_) => Ok(self.put_in_force()),
            // A mirror that is behind shows what comes before the accepted head: no reason to say that the rack's newest is refused.
            Err(FollowError::Rejected { listed, reason }) if place == Place::OWN => {
                self.refuse(listed, chain(&*reason), &[]);
                Ok(Look::Rejected)
            }
            Err(error) => Err(error),
        }
    }

    /// Whose keys may use the API.
    fn show_root(&self) {
        self.shared.view().root = Some(Arc::new((**self.follower.root()).clone()));
    }

    /// Does what the accepted head wants, unless its files are at fault.
    fn put_in_force(&mut self) -> Look {
        let Some(tree) = self.follower.accepted() else {
            return Look::Unchanged;
        };
        let head = (tree.head().id, told(tree.head()));
        match self.judge(tree) {
            Err(fault) => {
                self.refuse(head.0, chain(&fault), fault.problems());
                Look::Rejected
            }
            Ok(desired) => {
                if self.kept_in_force != Some(head.0) {
                    let kept = self.follower.keep_in_force();
                    self.kept_in_force = kept.is_ok().then_some(head.0);
                    self.init.kept("in force", &kept);
                }
                self.refused = None;
                self.shared.view().rejected = None;
                self.apply(head.1, desired);
                Look::Accepted
            }
        }
    }

    /// What the files of a verified head want from this tray.
    fn judge(&self, tree: &RackTree) -> Result<TrayDesired, AtFault> {
        let desired = desired(tree, &self.given.tray.tray)?;
        for warning in &desired.warnings {
            say(&format!("warning: {warning}"));
        }
        Ok(desired.tray)
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

    fn refuse(&mut self, head: ObjectId, reason: String, problems: &[Problem]) {
        let commit = Some(head.to_string());
        let mut view = self.shared.view();
        let since = match &view.rejected {
            Some(before) if before.commit == commit => before.since,
            _ => {
                let name = racklet_tell::text::short(head);
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
            commit,
            since,
            reason,
            problems: problems.to_vec(),
        });
        drop(view);
        self.refused = Some((head, Instant::now()));
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

    fn unreachable(&mut self, error: &FollowError) {
        let text = chain(error);
        self.trouble
            .say(&format!("the rack repository: {text}; trying again"));
        let mut view = self.shared.view();
        *view.looks.entry("failed").or_default() += 1;
        view.repository.error = Some(text);
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
        let told = self.init.tell(Op::Health {
            service: "hypervisor".to_owned(),
            healthy: health.0,
            message: health.1.clone(),
        });
        if told {
            self.health = Some(health);
        }
    }
}
