// SPDX-License-Identifier: Apache-2.0
//! Names of commits so and so far behind another one, without the commits.
//!
//! Git's `deepen <depth>` cuts a client's history, and the server says in a section of its own, before the pack, where it cut
//! (gitprotocol-v2.txt, "shallow-info"). Whoever claims to have everything already is told that and gets an empty pack: some 130 bytes.

use std::io::{BufRead, Read};

use gix_hash::{Kind as Format, ObjectId};

use super::{Remote, RemoteError, id, put};
use crate::{
    http::HttpError,
    limits::Limits,
    pack::{Nowhere, Objects},
    pkt::{Line, Lines},
    progress::Progress,
};

/// The most commits at one depth; more than that beside each other is no history to go along.
pub(crate) const MOST: usize = 256;
/// What is read behind the section for the connection to be used again.
const REST: usize = 4096;

/// Where a history is cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Boundary {
    /// Behind these commits, in the server's order.
    At(Vec<ObjectId>),
    /// Only behind the commit that was asked about, or not at all.
    Passed,
}

impl Remote {
    /// What is new in the commits behind those at one depth (`cut`) down to another one, both counted from `tip`.
    pub(crate) fn region(
        &mut self,
        tip: ObjectId,
        cut: &[ObjectId],
        depth: u32,
        limits: &Limits,
        progress: &mut dyn Progress,
    ) -> Result<Objects, RemoteError> {
        let filters = self.filters()?;
        let mut request = Self::command("fetch", self.format()?);
        put(&mut request, "ofs-delta");
        if filters {
            // Only commits are looked at.
            put(&mut request, "filter tree:0");
        }
        put(&mut request, &format!("want {tip}"));
        for id in cut {
            put(&mut request, &format!("shallow {id}"));
        }
        put(&mut request, &format!("deepen {depth}"));
        put(&mut request, &format!("have {tip}"));
        put(&mut request, "done");
        request.extend_from_slice(b"0000");
        self.receive(&request, limits, &mut Nowhere, progress)
    }

    /// The commits that are the `depth`-th on their shortest way back from `tip`. With `until`: [`Boundary::Passed`] when that commit is one
    /// of them or nearer. A claim like everything else.
    pub(crate) fn boundary(
        &mut self,
        tip: ObjectId,
        until: Option<ObjectId>,
        depth: u32,
    ) -> Result<Boundary, RemoteError> {
        let format = self.format()?;
        let mut request = Self::command("fetch", format);
        put(&mut request, &format!("want {tip}"));
        if let Some(until) = until {
            put(&mut request, &format!("shallow {until}"));
        }
        put(&mut request, &format!("deepen {depth}"));
        put(&mut request, &format!("have {tip}"));
        put(&mut request, "done");
        request.extend_from_slice(b"0000");
        // With `until` passed, what is behind it would come as well: it is not read, so this need not be small.
        let time = self.client.thinking();
        let mut lines = Lines::new(self.post(&request, u64::MAX, time)?);
        let boundary = cut_at(&mut lines, format, until)?;
        let mut body = lines.into_inner();
        let mut read = 0;
        while read < REST {
            let count = body.fill_buf().map_err(HttpError::from_io)?.len();
            if count == 0 {
                body.finish().map_err(HttpError::from_io)?;
                break;
            }
            body.consume(count);
            read += count;
        }
        // A body that is dropped before its end closes the connection.
        Ok(boundary)
    }
}

/// The section in which the server says where it cut.
// untrusted: git_refs
pub(crate) fn cut_at<R: Read>(
    lines: &mut Lines<R>,
    format: Format,
    until: Option<ObjectId>,
) -> Result<Boundary, RemoteError> {
    let mut found = Vec::new();
    let mut passed = false;
    if lines.next()?.text() == Some("shallow-info") {
        loop {
            let line = lines.next()?;
            if line == Line::Delimiter {
                break;
            }
            let bad =
                RemoteError::Line("a boundary is not `shallow` or `unshallow`, SP and a name");
            let Some((word, hex)) = line.text().and_then(|text| text.split_once(' ')) else {
                return Err(bad);
            };
            match (word, id(hex, format)) {
                ("shallow", Some(_)) if found.len() == MOST => {
                    return Err(RemoteError::Line("too many commits beside each other"));
                }
                ("shallow", Some(id)) => found.push(id),
                ("unshallow", Some(id)) => passed |= Some(id) == until,
                _ => return Err(bad),
            }
        }
    }
    Ok(match passed || found.is_empty() {
        true => Boundary::Passed,
        false => Boundary::At(found),
    })
}
