// SPDX-License-Identifier: Apache-2.0
//! What commands that ask trays have in common: which trays, where they are, who asks, and asking all of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::hypervisor::PORT;
use racklet_rack::{Problem, RackState};
use racklet_trust::{PublicKey, Role};

use crate::rack::{Rack, RackArgument};
use crate::remote::{Answered, RemoteError, Signer, Tray};
use crate::ssh;

/// The setting that says where a tray was found last.
const LAST: &str = "lastAddress";

/// How a tray is reached.
#[derive(Args)]
pub(super) struct Access {
    /// The tray's address and perhaps port; else `git config racklet.<tray>.address`, where it was found last, its name
    #[arg(long, value_name = "HOST[:PORT]")]
    address: Option<String>,
    /// Your key; it must be a config key of the rack
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    rack: RackArgument,
}

/// Everything that is the same for all trays.
pub(super) struct Session {
    pub(super) rack: Rack,
    pub(super) state: RackState,
    /// Of files that `state` is without.
    problems: Vec<Problem>,
    id: String,
    signer: Signer,
    address: Option<String>,
    /// `racklet.<tray>.…` as Git's configuration has them.
    settings: BTreeMap<String, String>,
}

/// A tray as the repository describes it, and where it may be.
pub(super) struct Target {
    pub(super) name: String,
    addresses: Vec<String>,
    identity: PublicKey,
}

impl Access {
    /// The user's key is asked for no longer than `lifetime`, and not before a tray is there.
    pub(super) fn open(&self, lifetime: Duration) -> anyhow::Result<Session> {
        let rack = self.rack.open()?;
        let (root, _) = rack.trust()?;
        let key = rack.key(self.key.as_deref(), &root, Role::Config)?;
        let (state, problems) = rack.valid_part()?;
        let id = root.rack().to_string();
        Ok(Session {
            settings: rack.repository.configs("racklet."),
            rack,
            state,
            problems,
            signer: Signer::new(id.clone(), key, lifetime),
            id,
            address: self.address.clone(),
        })
    }
}

impl Session {
    /// What is known about a tray.
    pub(super) fn target(&self, name: &str) -> anyhow::Result<Target> {
        let Some((_, tray)) = self
            .state
            .trays
            .iter()
            .find(|(tray, _)| tray.as_str() == name)
        else {
            let known: Vec<&str> = self.state.trays.keys().map(|name| name.as_str()).collect();
            bail!(
                "the rack has no tray {name}; it has: {}{}",
                known.join(", "),
                self.left_out()
            );
        };
        let identity = tray.identity.as_deref().with_context(|| {
            format!("trays/{name}.yaml names no identity, so there is no API to ask")
        })?;
        let (identity, _) = ssh::parse_line(identity)
            .with_context(|| format!("trays/{name}.yaml: spec.identity"))?;
        Ok(Target {
            name: name.to_owned(),
            addresses: self.addresses(name),
            identity,
        })
    }

    /// What Git's configuration says of a tray, if it does.
    fn setting(&self, tray: &str, key: &str) -> Option<String> {
        let name = format!("racklet.{tray}.{}", key.to_ascii_lowercase());
        self.settings.get(&name).cloned()
    }

    /// Where a tray may be. To try one too many is harmless: whoever answers has to have the tray's key.
    fn addresses(&self, name: &str) -> Vec<String> {
        if let Some(address) = &self.address {
            return vec![address.clone()];
        }
        let mut seen = BTreeSet::new();
        [
            self.setting(name, "address"),
            self.setting(name, LAST),
            Some(name.to_owned()),
            Some(format!("{name}.local")),
        ]
        .into_iter()
        .flatten()
        .filter(|address| seen.insert(address.clone()))
        .collect()
    }

    /// For the end of an error about something that is not there: perhaps it is only not valid.
    pub(super) fn left_out(&self) -> String {
        self.problems.iter().fold(String::new(), |text, problem| {
            text + "\nleft out because of " + &problem.to_string()
        })
    }

    /// The trays that were named, or all of them.
    pub(super) fn targets(
        &self,
        named: &[String],
    ) -> anyhow::Result<Vec<(String, anyhow::Result<Target>)>> {
        let names: Vec<String> = match named {
            [] => self.state.trays.keys().map(ToString::to_string).collect(),
            _ => named.to_vec(),
        };
        if self.address.is_some() && names.len() != 1 {
            bail!("--address is for one tray; name it");
        }
        let mut targets = Vec::new();
        for name in names {
            match self.target(&name) {
                // What was named wrongly is no tray that could answer.
                Err(error) if !self.state.trays.keys().any(|tray| tray.as_str() == name) => {
                    return Err(error);
                }
                target => targets.push((name, target)),
            }
        }
        Ok(targets)
    }

    /// `target` as it is asked.
    pub(super) fn tray<'s>(&'s self, target: &'s Target) -> Tray<'s> {
        Tray {
            rack: &self.id,
            name: &target.name,
            addresses: &target.addresses,
            identity: &target.identity,
            signer: &self.signer,
        }
    }

    /// Asks all trays at once; `show` is given each answer as it comes, with the tray's place in `targets`. One that does not
    /// answer keeps nobody waiting; a key that does not sign ends everything.
    pub(super) fn each<T: Send>(
        &self,
        targets: &[(String, anyhow::Result<Target>)],
        ask: impl Fn(&Tray<'_>) -> Result<Answered<T>, RemoteError> + Sync,
        mut show: impl FnMut(usize, &str, anyhow::Result<T>),
    ) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let (sender, answers) = mpsc::channel();
            for (place, (name, target)) in targets.iter().enumerate() {
                match target {
                    Ok(target) => {
                        let (sender, ask) = (sender.clone(), &ask);
                        scope.spawn(move || {
                            // Nobody receives once a key did not sign.
                            let _ = sender.send((place, ask(&self.tray(target))));
                        });
                    }
                    Err(error) => show(place, name, Err(anyhow::anyhow!("{error:#}"))),
                }
            }
            drop(sender);
            for (place, answer) in answers {
                let name = &targets[place].0;
                match answer {
                    Ok(answered) => {
                        self.remember(name, answered.at);
                        show(place, name, Ok(answered.value));
                    }
                    Err(error @ RemoteError::Sign(_)) => return Err(error.into()),
                    Err(error) => show(place, name, Err(error.into())),
                }
            }
            Ok(())
        })
    }

    /// Keeps where the tray was found, for the day on which its name leads nowhere.
    pub(super) fn remember(&self, name: &str, at: SocketAddr) {
        let address = match at.port() {
            PORT => at.ip().to_string(),
            _ => at.to_string(),
        };
        if self.setting(name, LAST).as_ref() != Some(&address) {
            let setting = format!("racklet.{name}.{LAST}");
            // Best effort: without it the next command looks the name up again.
            let _ = self.rack.repository.set_config(&setting, &address);
        }
    }
}
