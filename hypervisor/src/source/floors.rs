// SPDX-License-Identifier: Apache-2.0
//! The floors, which `init` keeps: asked for where nothing is accepted, raised with each head that is.

use crate::console::{Once, say};
use crate::handoff;
use crate::init;
use crate::shared::Shared;
use racklet_api::handoff::Head;
use racklet_api::init::{Op, Response, SlotsStatus, Status};
use racklet_follow::{Keeper, News};
use racklet_tell::error::chain;
use racklet_trust::floors::Floors;
use racklet_trust::history;
use std::path::PathBuf;
use std::sync::Arc;

/// `init`, as the repository thread knows it.
pub(super) struct Init {
    socket: PathBuf,
    /// What the bootstrap handed over.
    handed: Floors,
    branch: String,
    shared: Arc<Shared>,
    /// What `init` could not be told of an accepted head: it is told again with the next look.
    untold: Option<Op>,
    trouble: Once,
    keep_trouble: Once,
}

impl Init {
    pub(super) fn new(
        socket: PathBuf,
        handed: Floors,
        branch: String,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            socket,
            handed,
            branch,
            shared,
            untold: None,
            trouble: Once::default(),
            keep_trouble: Once::default(),
        }
    }

    /// Whether `init` did it.
    pub(super) fn tell(&self, op: Op) -> bool {
        match init::ask(&self.socket, op) {
            Ok(_) => {
                self.trouble.clear();
                true
            }
            Err(error) => {
                self.trouble
                    .say(&format!("{}; trying again", chain(&error)));
                false
            }
        }
    }

    /// Tells once more what `init` did not take.
    pub(super) fn tell_again(&mut self) {
        if let Some(op) = self.untold.take()
            && !self.tell(op.clone())
        {
            self.untold = Some(op);
        }
    }

    /// The bootstrap slots, where there are any and `init` answers.
    pub(super) fn slots(&self) -> Option<SlotsStatus> {
        self.status().ok()??.slots
    }

    fn status(&self) -> Result<Option<Box<Status>>, init::InitError> {
        init::ask(&self.socket, Op::Status).map(|Response { status, .. }| status)
    }

    /// Whether this boot was found good. Until it is, the payload before may be needed again.
    pub(super) fn marked_good(&self) -> bool {
        matches!(self.status(), Ok(Some(status)) if status.marked_good)
    }

    /// A head is, or is not, on the card.
    pub(super) fn kept(&self, what: &str, kept: &std::io::Result<()>) {
        match kept {
            Ok(()) => self.keep_trouble.clear(),
            Err(error) => self.keep_trouble.say(&format!(
                "the head {what} is not kept on the card, and goes on from memory: {error}"
            )),
        }
    }

    /// A head as the console shows it.
    pub(super) fn shown(&self, head: &Head) -> String {
        format!(
            "commit {} (generation {}) of {}",
            &head.commit[..head.commit.len().min(10)],
            head.generation,
            self.branch
        )
    }
}

impl Keeper for Init {
    /// What was accepted before, by the bootstrap or by a daemon before this one: `init` remembers it for as long as the tray runs,
    /// whatever became of the card.
    fn floors(&mut self) -> Floors {
        let mut floors = self.handed.clone();
        match self.status() {
            Ok(status) => {
                if let Some(known) = status.and_then(|status| status.floors) {
                    let known = handoff::floors(known.head.as_ref(), known.trust_root, known.time);
                    floors.raise(&known);
                }
            }
            Err(error) => self.trouble.say(&format!(
                "ask for the floors: {}; going by those of the bootstrap",
                chain(&error)
            )),
        }
        floors
    }

    /// What was accepted is never undercut again, not even from a wiped store. It holds for as long as this daemon and `init` run, even
    /// when the card does not take it.
    fn accepted(&mut self, news: News<'_>) {
        let head = told(news.head);
        say(&format!("accepted {}", self.shown(&head)));
        self.kept("accepted", &news.kept);
        // A key that lost its role asks nothing more, however far the way still is.
        if news.head.root.version() > self.handed.trust_root {
            self.shared.view().root = Some(Arc::new((*news.head.root).clone()));
        }
        self.untold = Some(Op::Raise {
            head,
            trust_root: news.head.root.version(),
            time: news.head.time,
            in_memory: news.kept.is_err(),
        });
        self.tell_again();
    }
}

/// A head as programs tell it each other.
pub(super) fn told(head: &history::Head) -> Head {
    Head {
        commit: head.id.to_string(),
        generation: head.generation,
    }
}
