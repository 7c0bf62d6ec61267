// SPDX-License-Identifier: Apache-2.0
//! The bootstrap with its cards switched on and served: the time, and the newest head of the rack repository.

use std::time::{Duration, Instant};

use racklet_fetch::remote::Remote;
use racklet_follow::{FollowError, Keeper, Looked, News, Place, Round};
use racklet_linux::clock;
use racklet_tell::error::Chain;
use racklet_trust::floors::Floors;

use super::begun::Begun;
use super::learnt::Learnt;
use super::network::Network;
use super::time::TIME;
use super::wanted::Wanted;
use super::{Back, Failed, NETWORK, REPOSITORY, Reached};
use crate::state::{HOUR, State};
use racklet_tell::text::short;

/// How long one attempt waits for an address.
const NETWORK_WAIT: Duration = Duration::from_secs(15);

/// The cards are listened to; whether there is an address, each attempt asks.
pub(super) struct Online<'a> {
    pub(super) begun: Begun<'a>,
    pub(super) network: Box<Network>,
}

impl<'a> Online<'a> {
    /// Waits, and keeps leases alive meanwhile; without a network where that fails.
    pub(super) fn pump(mut self, until: Duration) -> Reached<'a> {
        let signs = &mut self.begun.signs;
        match self.network.pump(until, &mut || signs.give()) {
            Ok(()) => Reached::Online(self),
            Err(_) => Reached::Begun(self.begun),
        }
    }

    /// Waits for an address, asks for the time and for the newest head, and accepts it. All of it until `end`, on the clock since boot,
    /// where there is one.
    pub(super) fn learn(mut self, end: Option<Duration>) -> Result<Learnt<'a>, Box<Back<'a>>> {
        match self.try_learn(end) {
            Ok((remote, wanted)) => Ok(Learnt {
                online: self,
                remote,
                wanted,
            }),
            Err(failed) => Err(Back::to(Reached::Online(self), failed)),
        }
    }

    fn try_learn(&mut self, end: Option<Duration>) -> Result<(Remote, Wanted), Failed> {
        let Self { begun, network } = self;
        begun.phases.enter("network");
        let until = clock::since_boot() + NETWORK_WAIT;
        let until = end.map_or(until, |end| until.min(end));
        let signs = &mut begun.signs;
        let up = network.wait(until, &mut || signs.give());
        up.map_err(|error| Failed::passing(NETWORK, Chain(&error)))?;

        begun.phases.enter("time");
        begun
            .time
            .ask(&begun.tray.time_servers, &network.time_servers());
        if let Some(now) = begun.time.to_keep()
            && let Err(error) = begun.state.keep_time(now, HOUR)
        {
            TIME.failed(Chain(&error), "go on; the next start begins earlier");
        }
        begun.signs.give();

        begun.phases.enter("repository");
        let finish_by = end.map(|end| Instant::now() + end.saturating_sub(clock::since_boot()));
        let remote = begun.follow_anywhere(finish_by).map_err(|error| Failed {
            topic: REPOSITORY,
            reason: Chain(&error).to_string(),
            lasting: !error.may_pass(),
            hold: error.hold(),
        })?;
        begun.time.raise(begun.state.floors().time);
        let wanted = Wanted::by(&begun.follower, begun.tray, begun.state.floors());
        let wanted = wanted.map_err(|error| Failed::lasting(REPOSITORY, Chain(&error)))?;
        Ok((remote, wanted))
    }
}

impl Begun<'_> {
    /// Accepts what the rack's own server shows or, where that brings nothing, one of its mirrors.
    fn follow_anywhere(&mut self, finish_by: Option<Instant>) -> Result<Remote, FollowError> {
        let mut round = Round::default();
        while let Some((place, behind)) = self.follower.next(&mut round) {
            let error = match self.follow(place, behind, finish_by) {
                Ok(remote) => return Ok(remote),
                Err(error) => error,
            };
            let url = self.follower.url_of(place).to_string();
            if behind > 0 {
                REPOSITORY.failed(
                    format_args!("{url}: {}", Chain(&error)),
                    "ask the next of the rack's repositories",
                );
            }
            round.failed(place, url, error)?;
        }
        Err(round.over())
    }

    /// Accepts what one place shows; the conversation goes on with what that pins. Those `behind` it keep their share of the time for a
    /// look.
    fn follow(
        &mut self,
        place: Place,
        behind: usize,
        finish_by: Option<Instant>,
    ) -> Result<Remote, FollowError> {
        let mut remote = self.follower.connect(place)?;
        let now = Instant::now();
        let left = finish_by.map(|end| end.saturating_duration_since(now));
        let shares = u32::try_from(behind + 1).unwrap_or(u32::MAX);
        remote.finish_by(left.map(|left| now + left / shares));
        let listed = self.follower.look(&mut remote, place)?;
        remote.finish_by(finish_by);
        let mut keeper = Kept(&mut self.state);
        let looked = self
            .follower
            .follow(&mut remote, listed, &mut keeper, &mut self.signs)?;
        if looked == Looked::Unchanged {
            REPOSITORY.say(format_args!("head {} is the accepted one", short(listed)));
        }
        Ok(remote)
    }
}

/// The floors on the card.
struct Kept<'s>(&'s mut State);

impl Keeper for Kept<'_> {
    fn floors(&mut self) -> Floors {
        self.0.floors().clone()
    }

    fn accepted(&mut self, news: News<'_>) {
        let News { head, commits, .. } = news;
        REPOSITORY.say(format_args!(
            "{} {} accepted, signed under trust root {}{}",
            match news.on_the_way {
                true => "on the way: commit",
                false => "head",
            },
            short(head.id),
            head.root.version(),
            match commits {
                0 | 1 => String::new(),
                more => format!(", {more} new commits"),
            },
        ));
        match news.kept {
            Ok(()) => {
                if let Err(error) = self.0.raise(&head.floors()) {
                    REPOSITORY.failed(Chain(&error), "go on; the floors hold for this boot");
                }
            }
            Err(error) => {
                REPOSITORY.failed(
                    format_args!("keep the head: {error}"),
                    "go on; the next boot fetches it again",
                );
                self.0.hold(&head.floors());
            }
        }
    }
}
