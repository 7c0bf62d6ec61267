// SPDX-License-Identifier: Apache-2.0
//! The bootstrap that knows what to boot: the payload that the newest head pins, from the cache or from its server.

use std::time::{Duration, Instant};

use racklet_fetch::remote::Remote;
use racklet_linux::clock;
use racklet_tell::error::Chain;
use racklet_trust::Digest;

use super::begun::judge;
use super::online::Online;
use super::payload::PAYLOAD;
use super::wanted::Wanted;
use super::{Back, Failed, Reached};

/// The newest head was accepted in this boot.
pub(super) struct Learnt<'a> {
    pub(super) online: Online<'a>,
    /// The conversation in which it was learnt.
    pub(super) remote: Remote,
    pub(super) wanted: Wanted,
}

impl<'a> Learnt<'a> {
    /// Gets the pinned payload into memory, every byte of it verified. Until `end`, on the clock since boot, where there is one.
    pub(super) fn fetch(self, end: Option<Duration>) -> Result<Online<'a>, Box<Back<'a>>> {
        let Self {
            mut online,
            remote,
            wanted,
        } = self;
        let fetched = online.fetch(remote, &wanted, end);
        online.begun.wanted = Some(wanted);
        match fetched {
            Ok(()) => Ok(online),
            Err(failed) => Err(Back::to(Reached::Online(online), failed)),
        }
    }
}

impl Online<'_> {
    fn fetch(
        &mut self,
        mut remote: Remote,
        wanted: &Wanted,
        end: Option<Duration>,
    ) -> Result<(), Failed> {
        let begun = &mut self.begun;
        begun.phases.enter("payload");
        let judge = judge(&begun.follower, &begun.state, &begun.time);
        let pin = &wanted.payload;
        let has = begun.payloads.has(pin, judge, &mut begun.signs);
        if has.map_err(|error| Failed::lasting(PAYLOAD, Chain(&error)))? {
            return Ok(());
        }
        if pin.repository.is_some() {
            let config = begun.follower.config_for(pin);
            let config = config.map_err(|error| Failed::lasting(PAYLOAD, Chain(&error)))?;
            remote =
                Remote::new(&config).map_err(|error| Failed::lasting(PAYLOAD, Chain(&error)))?;
            remote
                .finish_by(end.map(|end| Instant::now() + end.saturating_sub(clock::since_boot())));
        }
        let good = begun.state.boots().good();
        let keep = wanted.images.iter().copied().chain([wanted.digest()]);
        let keep: Vec<Digest> = keep.chain(good).collect();
        let fetched = begun
            .payloads
            .fetch(&mut remote, pin, judge, &keep, &mut begun.signs);
        fetched.map_err(|error| Failed {
            topic: PAYLOAD,
            reason: Chain(&error).to_string(),
            lasting: !error.may_pass(),
            hold: error.hold(),
        })
    }
}
