// SPDX-License-Identifier: Apache-2.0
//! What a server lists in answer to `ls-refs` (gitprotocol-v2.txt): names of refs and of what they point to, claims all of them.
//!
//! Lines in, refs out; how many bytes may come is the conversation's to say.

use std::io::Read;

use gix_hash::{Kind as Format, ObjectId};

use super::RemoteError;
use crate::pkt::{Line, Lines, printable};

/// One ref of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// Full name.
    pub name: String,
    /// What it points to.
    pub id: ObjectId,
}

/// The listed refs that are `wanted`, `most` of them: servers may ignore the prefixes that they were asked for.
// untrusted: git_refs
pub(crate) fn listed<R: Read>(
    lines: &mut Lines<R>,
    format: Format,
    most: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Ref>, RemoteError> {
    let mut refs = Vec::new();
    loop {
        let line = lines.next()?;
        if line == Line::Flush {
            return Ok(refs);
        }
        let bad = RemoteError::Line("a ref is not `name SP ref`");
        let Some((id, rest)) = line.text().and_then(|text| text.split_once(' ')) else {
            return Err(bad);
        };
        let name = rest.split(' ').next().unwrap_or(rest);
        if !wanted(name) {
            continue;
        }
        if refs.len() == most {
            return Err(RemoteError::Refs(most));
        }
        refs.push(Ref {
            id: self::id(id, format).ok_or(bad)?,
            name: name.to_owned(),
        });
    }
}

/// The branch that `HEAD` stands for, as it may be shown.
// untrusted: git_refs
pub(crate) fn default_branch<R: Read>(lines: &mut Lines<R>) -> Result<Option<String>, RemoteError> {
    let mut found = None;
    loop {
        let line = lines.next()?;
        if line == Line::Flush {
            return Ok(found);
        }
        let words = line.text().unwrap_or_default().split(' ');
        let mut words = words.skip(1);
        if words.next() == Some("HEAD") {
            let target = words.find_map(|word| word.strip_prefix("symref-target:refs/heads/"));
            found = target.map(|name| printable(name.as_bytes()));
        }
    }
}

/// Reads an object's name, which must be of `format`'s length and in lower case.
pub(crate) fn id(hex: &str, format: Format) -> Option<ObjectId> {
    let proper = hex.len() == format.len_in_hex()
        && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    proper
        .then(|| ObjectId::from_hex(hex.as_bytes()).ok())
        .flatten()
}
