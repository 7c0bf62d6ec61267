// SPDX-License-Identifier: Apache-2.0
//! A repository on this machine, judged by the tray's own code.

use std::io;

use gix_hash::{Kind as Format, ObjectId};
use racklet_trust::{commit, history::Accepted};

use super::{Approvals, RackTree, Rejected, judge, ours, theirs};
use crate::{
    limits::Limits,
    pack::Kind,
    tree::{Source, TreeError},
};

/// A repository on this machine, such as a clone in which somebody works. What it gives is hashed again.
pub trait LocalObjects {
    /// Kind (`commit`, `tree`, `blob`, `tag`) and contents of an object; `None` when it is not there.
    ///
    /// # Errors
    /// When the repository cannot be read.
    fn object(&self, id: &commit::ObjectId) -> io::Result<Option<(String, Vec<u8>)>>;

    /// Armored approvals of a commit.
    ///
    /// # Errors
    /// When the repository cannot be read.
    fn approvals(&self, id: &commit::ObjectId) -> io::Result<Vec<Vec<u8>>>;
}

/// Says of a head in a local repository what a tray would say that has `accepted`: the same code, without a server.
///
/// # Errors
/// [`Rejected`] with the commit and the rule.
pub fn check_local(
    objects: &dyn LocalObjects,
    head: &commit::ObjectId,
    accepted: &Accepted,
    limits: &Limits,
) -> Result<RackTree, Rejected> {
    let id = theirs(head);
    let local = Local {
        objects,
        format: id.kind(),
    };
    // Only the head's are kept beside it; the rule asks for those of the others as it goes.
    let read = |source| Rejected::Tree {
        head: *head,
        error: TreeError::Read { id, source },
    };
    let own = objects.approvals(head).map_err(read)?;
    judge(&local, &Approvals::from([(id, own)]), id, accepted, limits)
}

struct Local<'a> {
    objects: &'a dyn LocalObjects,
    format: Format,
}

impl Source for Local<'_> {
    fn object(&self, id: &gix_hash::oid) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let Some((kind, bytes)) = self.objects.object(&ours(&id.to_owned()))? else {
            return Ok(None);
        };
        let kind = Kind::from_bytes(kind.as_bytes())
            .map_err(|_| io::Error::other("an object of a kind that Git does not know"))?;
        let found = gix_object::compute_hash(self.format, kind, &bytes)
            .map_err(|_| io::Error::other("one of a SHA-1 collision pair"))?;
        match found.as_slice() == id.as_bytes() {
            true => Ok(Some((kind, bytes))),
            false => Err(io::Error::other(format!(
                "it holds other bytes (their name is {found})"
            ))),
        }
    }

    fn format(&self) -> Format {
        self.format
    }

    fn approvals(&self, id: &ObjectId) -> io::Result<Vec<Vec<u8>>> {
        self.objects.approvals(&ours(id))
    }
}
