// SPDX-License-Identifier: Apache-2.0
//! The bootstrap with a payload to start: the handoff, the next kernel, and the end of this one.

use racklet_api::V1;
use racklet_api::handoff::{Handoff, Head, Lease, PayloadReport};
use racklet_follow::Payload;
use racklet_linux::clock;
use racklet_tell::error::{Chain, chain};
use racklet_trust::Digest;

use super::begun::Begun;
use super::decide::Why;
use super::kexec::{self, LoadError};
use super::network::Network;
use super::payload::PAYLOAD;
use super::phases::Phases;
use super::{BOOT, Back, Failed, Reached};
use crate::console::seconds;
use crate::state::boots::TRIES;
use crate::{mounts, pid1};
use racklet_tell::text::size;

/// A payload in memory, every byte of it verified.
pub(super) struct Ready<'a> {
    pub(super) at: Reached<'a>,
    pub(super) payload: Payload,
    pub(super) why: Why,
}

impl<'a> Ready<'a> {
    /// Loads it with its handoff. The verified bytes are given up on the way: memory is short.
    pub(super) fn load(self) -> Result<Left<'a>, Box<Back<'a>>> {
        let Self { at, payload, why } = self;
        let digest = payload.digest;
        match load(at.begun(), at.lease(), payload, why) {
            Ok(()) => Ok(Left { at, digest }),
            Err(error) => Err(Back::to(at, Failed::passing(PAYLOAD, Chain(&error)))),
        }
    }
}

fn load(
    begun: &Begun<'_>,
    lease: Option<Lease>,
    payload: Payload,
    why: Why,
) -> Result<(), LoadError> {
    let fallback = fallback(why);
    let (name, version) = (&payload.manifest.name, payload.manifest.version);
    let tries = begun.state.boots().tries(payload.digest) + 1;
    BOOT.say(format_args!(
        "{name}-{version}{}{}",
        match tries {
            1 => String::new(),
            tries => format!(", start {tries} of {TRIES}"),
        },
        fallback
            .as_ref()
            .map_or_else(String::new, |why| format!(" ({why})")),
    ));
    let floors = begun.state.floors();
    let handoff = Handoff {
        v: V1,
        head: floors.head.map(|(id, generation)| Head {
            commit: id.to_string(),
            generation,
        }),
        trust_root: begun.follower.root().version(),
        time_floor: floors.time.max(begun.tray.built),
        time: begun.time.report(),
        boot: begun.boot.clone(),
        payload: PayloadReport {
            manifest: payload.digest.to_string(),
            name: name.clone(),
            version,
            fallback,
        },
        lease,
        persistent: begun.state.persistent(),
    };
    let roots = [&**begun.follower.root(), begun.follower.baked()];
    let archive = kexec::handoff_archive(roots, begun.tray, &handoff, &begun.card)?;
    let sizes: Vec<String> = payload
        .files
        .iter()
        .map(|(name, bytes)| format!("{name} {}", size(bytes.len() as u64)))
        .collect();
    kexec::load(payload, begun.tray, &archive)?;
    BOOT.say(format_args!(
        "loaded from sealed memory: {}, handoff {}",
        sizes.join(", "),
        size(archive.len() as u64)
    ));
    Ok(())
}

/// The next kernel is loaded: there is no way back from here but through the firmware.
pub(super) struct Left<'a> {
    at: Reached<'a>,
    digest: Digest,
}

impl Left<'_> {
    /// Counts the start, closes the card and jumps.
    pub(super) fn jump(self) -> ! {
        let (begun, network): (Begun<'_>, Option<Network>) = self.at.into_parts();
        if let Some(Err(error)) = network.map(Network::switch_off) {
            BOOT.failed(
                format_args!("switch the network's cards off: {}", Chain(&error)),
                "hand over all the same",
            );
        }
        let Begun {
            since,
            mut phases,
            mut signs,
            mut state,
            ..
        } = begun;
        // Counted before it is used: a kernel that hangs has had its try.
        phases.enter("leave");
        if let Err(error) = state.keep_boots(state.boots().clone().started(self.digest)) {
            BOOT.failed(Chain(&error), "start it uncounted");
        }
        signs.give();
        let phases = Phases::finish(phases);
        BOOT.say(format_args!(
            "handing over after {}",
            seconds(clock::since_boot().saturating_sub(since))
        ));
        println!("racklet: phases {phases}");
        state.close();
        mounts::kernel_talk(mounts::KernelTalk::All);
        let error = racklet_linux::kexec::jump();
        // The state is closed and the kernel would not go: only the firmware can help now.
        pid1::fatal(chain(&error))
    }
}

/// For people, when it is not simply the pinned one.
fn fallback(why: Why) -> Option<String> {
    match why {
        Why::Pinned => None,
        Why::PinnedBefore => {
            Some("pinned by the head accepted before; the server could not be asked".to_owned())
        }
        Why::Unavailable => Some("from the cache; the pinned payload is not available".to_owned()),
        Why::PinnedFails => Some(format!(
            "the pinned payload was started {TRIES} times and never healthy"
        )),
        Why::LastResort => Some("the last resort: every payload here has failed before".to_owned()),
    }
}
