// SPDX-License-Identifier: Apache-2.0
//! SHA-256 of files and texts, in hex, by coreutils' `sha256sum`: a crate that hashes fast takes half as long to compile as all
//! the rest of this program.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::process::output;

/// Of a file's contents.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    let [digest] = <[String; 1]>::try_from(of_files(&[path])?)
        .map_err(|digests| anyhow!("{} digests of one file", digests.len()))?;
    Ok(digest)
}

/// Of each of these files' contents, in their order: many cost little more than one.
pub(crate) fn of_files(paths: &[impl AsRef<Path>]) -> Result<Vec<String>> {
    let mut digests = Vec::new();
    // A command line has room for two megabytes.
    for some in paths.chunks(400) {
        let mut command = Command::new("sha256sum");
        command.args(["--zero", "--"]);
        command.args(some.iter().map(AsRef::as_ref));
        let said = output(&mut command)?;
        for entry in said.split_terminator('\0') {
            digests.push(first_word(entry)?);
        }
    }
    ensure!(
        digests.len() == paths.len(),
        "sha256sum gave {} digests of {} files",
        digests.len(),
        paths.len()
    );
    Ok(digests)
}

/// Of several texts, told apart by their lengths.
pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start sha256sum")?;
    let mut stdin = child.stdin.take().expect("it was asked for above");
    // It answers once it has read all, so neither waits for the other.
    stdin
        .write_all(&bytes)
        .context("hand a text to sha256sum")?;
    drop(stdin);
    let out = child.wait_with_output().context("wait for sha256sum")?;
    ensure!(out.status.success(), "sha256sum: {}", out.status);
    first_word(&String::from_utf8_lossy(&out.stdout))
}

fn first_word(said: &str) -> Result<String> {
    let digest = said.split(' ').next().unwrap_or_default();
    ensure!(
        digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "sha256sum said {said:?}"
    );
    Ok(digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn parts_are_told_apart() {
        let of = |parts: [&str; 2]| of_parts(parts).unwrap();
        assert_ne!(of(["ab", "c"]), of(["a", "bc"]));
        assert_eq!(of(["ab", "c"]), of(["ab", "c"]));
    }

    #[test]
    fn digests_are_sha256_whatever_a_file_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["f", "-c", "a b\\\n"].map(|name| folder.path().join(name));
        for (path, text) in paths.iter().zip(["abc", "", "abc"]) {
            fs::write(path, text).unwrap();
        }
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digests = of_files(&paths).unwrap();
        assert_eq!((&*digests[0], &*digests[2]), (abc, abc));
        assert!(digests[1].starts_with("e3b0c44298fc1c14"), "{digests:?}");
        assert_eq!(of_file(&paths[2]).unwrap(), abc);
        let empty = of_parts([]).unwrap();
        assert!(empty.starts_with("e3b0c44298fc1c14"), "{empty}");
        assert!(of_file(&folder.path().join("none")).is_err());
    }
}
