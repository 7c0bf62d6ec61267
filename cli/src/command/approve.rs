// SPDX-License-Identifier: Apache-2.0
//! `racklet approve`: the second signature, where the rack asks for more than one config key.

use anyhow::Context;
use clap::Args;
use racklet_fetch::rack::{APPROVAL_FILE, approval_branch, approval_ref};
use racklet_trust::commit::{Commit, ObjectId};
use racklet_trust::history::Repository;
use racklet_trust::{Role, namespace};

use crate::answer::Approved;
use crate::lasting::{self, Lasting};
use crate::objects::Objects;
use crate::output::Output;
use crate::rack::RackArgument;
use crate::ssh;

/// Approve a commit of somebody else with your key
///
/// Where the rack asks for more than one config key, a commit counts once enough different keys stand behind it: its own
/// signature and approvals. An approval is a ref of its own (a branch, where the server takes no other), so the commit stays what it is.
#[derive(Args)]
pub(crate) struct Approve {
    /// The commit
    #[arg(value_name = "REVISION", default_value = "HEAD")]
    revision: String,
    /// Your key; it must be a config key of the rack
    #[arg(long)]
    key: Option<String>,
    /// Only make the ref; push it yourself
    #[arg(long)]
    no_push: bool,
    #[command(flatten)]
    rack: RackArgument,
}

impl Approve {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        let id = rack
            .repository
            .commit(&self.revision)
            .with_context(|| format!("{} is not a commit here", self.revision))?;
        let objects = Objects::open(&rack.repository)?;
        // The commit is not good yet: that is why it is approved. Its keys are those that root keys vouch for.
        let root = rack.vouched(&objects, &id)?;
        let name = ObjectId::from_hex(&id).context("an object name")?;
        let raw = objects
            .commit(&name)?
            .with_context(|| format!("commit {id} is missing"))?;
        let commit = Commit::parse(&raw).with_context(|| format!("commit {id}"))?;
        let key = rack.key(self.key.as_deref(), &root, Role::Config)?;
        let armored = ssh::sign(&key, namespace::APPROVAL, commit.signed_bytes())?;
        let blob = rack
            .repository
            .feed(["hash-object", "-w", "--stdin"], |input| {
                input.write_all(&armored)
            })?;
        let blob = String::from_utf8_lossy(&blob).trim().to_owned();
        // One ref for each key: approving twice changes nothing.
        let reference = approval_ref(&id, &key.public);
        rack.repository.run(["update-ref", &reference, &blob])?;
        let (reference, next) = if self.no_push {
            let next = format!("next: git push origin {reference}");
            (reference, next)
        } else {
            let branch = approval_branch(&id, &key.public);
            let message = format!("approval of {id}\n");
            let wrapped = lasting::commit(
                &rack.repository,
                &lasting::info(None, commit.time(), &message),
                [APPROVAL_FILE.to_owned()],
                |_| Ok(armored.clone()),
                |_| {},
            )?;
            let wrapped = wrapped.id().to_string();
            let lasting = Lasting {
                of_its_own: (&blob, &reference),
                as_branch: (&wrapped, &branch),
            };
            let taken = lasting.push(&rack.repository, "origin", output)?.to_owned();
            (taken, "trays take it with the commit".to_owned())
        };
        let text = format!("approved {id} with {}\n{next}", key.shown());
        output.answer(
            &text,
            &Approved {
                commit: id,
                r#ref: reference,
                key: key.public.fingerprint(),
            },
        );
        Ok(())
    }
}
