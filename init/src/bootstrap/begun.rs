// SPDX-License-Identifier: Apache-2.0
//! The bootstrap before it has a network: who this tray is, what it remembers, what its cache holds.

use std::sync::Arc;
use std::time::Duration;

use racklet_api::handoff::{BootInfo, Card};
use racklet_api::tray::TrayConfig;
use racklet_fetch::disk::Files;
use racklet_fetch::tls::SystemClock;
use racklet_follow::{Follower, Judge};
use racklet_linux::clock;
use racklet_tell::error::Chain;
use racklet_trust::{Digest, TrustRoot, Verified};

use super::decide::Candidate;
use super::network::Network;
use super::online::Online;
use super::payload::Payloads;
use super::phases::Phases;
use super::signs::SignsOfLife;
use super::time::Time;
use super::wanted::Wanted;
use super::{Back, Failed, Fatal, INIT, NETWORK, REPOSITORY, Reached, own};
use crate::pid1;
use crate::state::State;

/// All that every later state has, too.
pub(super) struct Begun<'a> {
    pub(super) tray: &'a TrayConfig,
    pub(super) boot: Option<BootInfo>,
    pub(super) card: Card,
    /// On the clock since boot.
    pub(super) since: Duration,
    pub(super) phases: Phases,
    pub(super) signs: SignsOfLife,
    pub(super) state: State,
    pub(super) time: Time,
    pub(super) follower: Follower<Files>,
    pub(super) payloads: Payloads,
    /// What the head accepted last says; in this boot, or in one before.
    pub(super) wanted: Option<Wanted>,
}

impl<'a> Begun<'a> {
    pub(super) fn begin(tray: &'a TrayConfig) -> Result<Self, Fatal> {
        let mut phases = Phases::begin("state");
        let since = clock::since_boot();
        let root = pid1::handed("/racklet/trust-root.json")?.ok_or(Fatal::NoTrustRoot)?;
        let root = Verified::<TrustRoot>::baked(&root)?;
        if root.rack().to_string() != tray.rack {
            return Err(Fatal::OtherRack(root.rack().to_string(), tray.rack.clone()));
        }
        let mut card = pid1::card();
        let boot: Option<BootInfo> = match pid1::handed_json("/racklet/boot.json")? {
            Some(boot) => Some(boot),
            // No bootloader of ours was there to say it.
            None => own::slot(&root, tray, &card)?,
        };
        if let Some(boot) = &boot {
            INIT.say(format_args!(
                "slot {}, start {} since it was last healthy",
                boot.slot, boot.tries
            ));
        }
        let signs = SignsOfLife::begin(tray);
        let mut state = State::open(&tray.rack, &card, true)?;
        card.floors_lost = state.floors_lost();
        let time = Time::begin(tray.built.max(state.floors().time), state.last_time());
        let payloads = match Payloads::open(&state, &tray.board) {
            Ok(payloads) => payloads,
            Err(error) => {
                state = state.into_memory(&error)?;
                Payloads::open(&state, &tray.board).map_err(Fatal::Cache)?
            }
        };
        let (clock, folder) = (Arc::new(SystemClock), state.folder("git/rack"));
        let roots = [root.clone(), root];
        let mut follower =
            Follower::new(tray, clock, Files, folder, roots).map_err(Fatal::Repository)?;
        for error in follower.reopen(state.floors()) {
            REPOSITORY.failed(Chain(&error), "begin with the one in force, or anew");
        }
        if let Some(tree) = follower.accepted() {
            // Where floors were lost, the kept head says again what they were, as far as heads are concerned.
            if let Err(error) = state.raise(&tree.head().floors()) {
                REPOSITORY.failed(Chain(&error), "go on; the floors hold for this boot");
            }
        }
        follower.config.pulse = signs.pulse();
        let wanted = Wanted::by(&follower, tray, state.floors()).ok();
        phases.enter("network");
        Ok(Self {
            tray,
            boot,
            card,
            since,
            phases,
            signs,
            state,
            time,
            follower,
            payloads,
            wanted,
        })
    }

    /// What could start now.
    pub(super) fn candidates(&self, spoiled: &[Digest]) -> Vec<Candidate> {
        let judge = judge(&self.follower, &self.state, &self.time);
        self.payloads.candidates(judge, self.state.boots(), spoiled)
    }

    /// Begins to listen to the tray's cards.
    pub(super) fn go_online(mut self) -> Result<Online<'a>, Box<Back<'a>>> {
        self.phases.enter("network");
        match Network::open(self.tray) {
            Ok(network) => Ok(Online {
                begun: self,
                network: Box::new(network),
            }),
            Err(error) => {
                let failed = Failed::passing(NETWORK, Chain(&error));
                Err(Back::to(Reached::Begun(self), failed))
            }
        }
    }
}

/// By whose word and when payloads are judged now.
pub(super) fn judge<'j>(follower: &'j Follower<Files>, state: &'j State, time: &Time) -> Judge<'j> {
    Judge {
        root: follower.root(),
        floors: state.floors(),
        now: time.trusted_now(),
    }
}
