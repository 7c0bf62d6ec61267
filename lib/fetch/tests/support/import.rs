// SPDX-License-Identifier: Apache-2.0
//! Commits made by Git itself, also of what no publisher would write.

use std::io::{self, Write};

/// The commit that [`write_fast_import`] makes.
#[derive(Debug, Clone)]
pub struct CommitInfo<'a> {
    /// Full name of the branch, such as `refs/heads/payload/stable`.
    pub branch: &'a str,
    /// Its present tip, in hex, if it exists.
    pub parent: Option<&'a str>,
    /// Author and committer.
    pub name: &'a str,
    /// Their address.
    pub email: &'a str,
    /// Unix seconds.
    pub time: u64,
    /// The message.
    pub message: &'a str,
}

/// Writes a stream for `git fast-import --done` that makes `commit` with exactly `files` (path, bytes) in its tree.
pub fn write_fast_import(
    out: &mut impl Write,
    commit: &CommitInfo<'_>,
    files: impl IntoIterator<Item = io::Result<(String, Vec<u8>)>>,
) -> io::Result<()> {
    let who = format!("{} <{}> {} +0000", commit.name, commit.email, commit.time);
    if [commit.branch, commit.name, commit.email]
        .iter()
        .any(|text| text.contains(['\n', '<', '>', '\0']))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "branch, name and address must not hold line breaks or angle brackets",
        ));
    }
    writeln!(
        out,
        "feature done\ncommit {}\nauthor {who}\ncommitter {who}",
        commit.branch
    )?;
    data(out, commit.message.as_bytes())?;
    if let Some(parent) = commit.parent {
        writeln!(out, "from {parent}")?;
    }
    writeln!(out, "deleteall")?;
    for file in files {
        let (path, bytes) = file?;
        writeln!(out, "M 100644 inline {path}")?;
        data(out, &bytes)?;
    }
    writeln!(out, "done")?;
    out.flush()
}

fn data(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    writeln!(out, "data {}", bytes.len())?;
    out.write_all(bytes)?;
    out.write_all(b"\n")
}
