// SPDX-License-Identifier: Apache-2.0
//! What Git hosts are asked before a push, and what is said when they refuse one.

use std::path::Path;

use anyhow::Context;

use crate::git::Repository;

/// How the repository at `url` names its objects.
pub(super) fn object_format(repository: &Repository, url: &str) -> anyhow::Result<&'static str> {
    let known = |format: &str| if format == "sha1" { "sha1" } else { "sha256" };
    let of = |path: &Path| Repository::at(path).text(["rev-parse", "--show-object-format"]);
    // Inside of a local repository the answer does not depend on its having commits.
    if let Ok(format) = of(Path::new(url)) {
        return Ok(known(&format));
    }
    let listed = repository
        .text(["ls-remote", url])
        .with_context(|| format!("ask {url} for its branches"))?;
    if let Some(name) = listed.split_whitespace().next() {
        return Ok(if name.len() == 40 { "sha1" } else { "sha256" });
    }
    // Nothing is there that has a name. A clone of nothing takes on what the server says of itself (git 2.41 and newer).
    let empty = tempfile::tempdir().context("make a temporary folder")?;
    let clone = empty.path().join("empty");
    repository
        .run([
            "clone",
            "--quiet",
            "--bare",
            url,
            &clone.display().to_string(),
        ])
        .with_context(|| format!("ask {url} how it names objects"))?;
    Ok(known(&of(&clone)?))
}

/// A push that failed, with what Git does not say.
pub(super) fn refused(repository: &Repository, url: &str, error: anyhow::Error) -> anyhow::Error {
    let here = repository.text(["rev-parse", "--show-object-format"]);
    let there = object_format(repository, url);
    match (here, there) {
        (Ok(here), Ok(there)) if here != there => anyhow::anyhow!(
            "{error:#}\n{url} names objects by {there}, the rack repository by {here}, and nothing converts one into the other: make the rack with `racklet rack init --object-format {there}`, or give it a repository that was made with `git init --bare --object-format={here}`"
        ),
        _ if url.contains("://") => anyhow::anyhow!(
            "{error:#}\nwhere it says HTTP 413, what stands in front of the server takes no pushes of this size (nginx: `client_max_body_size 0`); where it says that a ref or an unsigned commit is refused, its rules cover more than the branch of the rack"
        ),
        _ => error,
    }
}
