// SPDX-License-Identifier: Apache-2.0
//! A test pays once: what passed is remembered under a digest of everything that went in, and taken over while that stays so.
//!
//! ```text
//! inputs (name: digest) ── SHA-256 ──▶ ~/.cache/racklet/verdicts/<key> ── is itself: key, own digest, age ──▶ taken over
//!        └── told again after the run: kept only where nothing has changed meanwhile, and only what passed
//! ```
//!
//! An entry proves nothing against who can write to the cache of the user (they could as well change the tests): its own digest
//! is against files cut short and disks that rot, the list of inputs against mistakes in here.

pub(crate) mod inputs;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{hash, paths};

/// Tests see the clock, certificates age, prices too: what passed longer ago is asked again.
const AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// So many are kept, the newest: a run leaves about a hundred.
const COUNT: usize = 4000;
/// An entry names some forty inputs with their digests; nothing larger was written by us.
const SIZE: u64 = 64 << 10;

/// Everything that went into a verdict: what it is called, and its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    pub(crate) fn with(mut self, name: impl Into<String>, digest: impl Into<String>) -> Self {
        self.0.insert(name.into(), digest.into());
        self
    }

    pub(crate) fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.clone());
        self
    }

    /// The name of the verdict about `what` with these inputs.
    fn key(&self, what: &str) -> Result<String> {
        let parts = self.0.iter().flat_map(|(name, digest)| [name, digest]);
        hash::of_parts([what].into_iter().chain(parts.map(String::as_str)))
    }

    fn json(&self) -> Value {
        json!(self.0)
    }
}

/// That something passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// How many tests, of those that a filter or `#[ignore]` does not leave out.
    pub(crate) tests: u64,
    /// How long that took, in seconds.
    pub(crate) seconds: u64,
}

/// The folder of verdicts.
pub(crate) struct Store {
    folder: PathBuf,
    reads: bool,
    writes: bool,
}

impl Store {
    /// The user's. With `again` nothing is taken over, and what passes is kept as ever.
    pub(crate) fn open(again: bool) -> Result<Self> {
        let store = Self {
            folder: paths::made(paths::cache()?.join("verdicts"))?,
            reads: !again,
            writes: true,
        };
        store.prune(SystemTime::now());
        Ok(store)
    }

    /// Neither gives nor keeps: for a run of which the inputs, or the tests, are not all.
    pub(crate) fn closed() -> Self {
        Self {
            folder: PathBuf::new(),
            reads: false,
            writes: false,
        }
    }

    /// What is known of `what` with exactly these inputs.
    pub(crate) fn find(&self, what: &str, inputs: &Inputs) -> Option<Passed> {
        self.find_at(what, inputs, SystemTime::now())
    }

    fn find_at(&self, what: &str, inputs: &Inputs, now: SystemTime) -> Option<Passed> {
        if !self.reads {
            return None;
        }
        let mut text = String::new();
        let file = fs::File::open(self.folder.join(inputs.key(what).ok()?)).ok()?;
        file.take(SIZE).read_to_string(&mut text).ok()?;
        let (digest, body) = text.split_once('\n')?;
        if hash::of_parts([body]).ok()? != digest {
            return None;
        }
        let body: Value = serde_json::from_str(body).ok()?;
        if body["what"] != what || body["inputs"] != inputs.json() {
            return None;
        }
        let kept = UNIX_EPOCH + Duration::from_secs(body["at"].as_u64()?);
        // A clock that was set back makes entries from the future: these are of no known age.
        if now.duration_since(kept).ok()? > AGE {
            return None;
        }
        Some(Passed {
            tests: body["tests"].as_u64()?,
            seconds: body["seconds"].as_u64()?,
        })
    }

    /// Keeps that `what` passed with these inputs; what is there instead is replaced as a whole.
    pub(crate) fn keep(&self, what: &str, inputs: &Inputs, passed: Passed) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let body = json!({
            "what": what, "inputs": inputs.json(), "at": at, "tests": passed.tests, "seconds": passed.seconds,
        })
        .to_string();
        let key = inputs.key(what)?;
        // Of this process and this verdict only: two runs may keep the same at once.
        let partial = self
            .folder
            .join(format!("{key}.{}.partial", std::process::id()));
        let digest = hash::of_parts([body.as_str()])?;
        let write = || {
            let mut file = fs::File::create(&partial)?;
            file.write_all(format!("{digest}\n{body}").as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, self.folder.join(&key))
        };
        write().with_context(|| format!("keep the verdict about {what}"))
    }

    /// Forgets what is too old, and the oldest of what is too much.
    fn prune(&self, now: SystemTime) {
        let mut found: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > AGE);
        for (place, (at, path)) in found.iter().enumerate() {
            if place >= COUNT || old(*at) {
                // What stays is only a file more: its age is looked at again before it counts.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The digest of a file that may be missing, which is an answer as well.
pub(crate) fn digest_of(path: &Path) -> Result<String> {
    match path.exists() {
        true => hash::of_file(path),
        false => Ok("absent".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: Passed = Passed {
        tests: 3,
        seconds: 2,
    };

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store {
            folder: folder.path().into(),
            reads: true,
            writes: true,
        };
        (folder, store)
    }

    fn inputs() -> Inputs {
        Inputs::default()
            .with("sources of lib/trust", "1")
            .with("machine", "2")
    }

    #[test]
    fn what_passed_is_taken_over_while_its_inputs_are_the_same() {
        let (_folder, store) = store();
        assert_eq!(store.find("lib", &inputs()), None);
        store.keep("lib", &inputs(), PASSED).unwrap();
        assert_eq!(store.find("lib", &inputs()), Some(PASSED));
    }

    #[test]
    fn any_other_input_or_subject_is_another_verdict() {
        let (_folder, store) = store();
        store.keep("lib", &inputs(), PASSED).unwrap();
        assert_eq!(store.find("bin", &inputs()), None);
        for changed in [
            inputs().with("machine", "3"),
            inputs().with("kernel", "2"),
            Inputs::default().with("machine", "2"),
        ] {
            assert_eq!(store.find("lib", &changed), None, "{changed:?}");
        }
    }

    #[test]
    fn an_entry_that_was_changed_cut_short_or_put_under_another_name_is_ignored() {
        let (folder, store) = store();
        store.keep("lib", &inputs(), PASSED).unwrap();
        let path = folder.path().join(inputs().key("lib").unwrap());
        let good = fs::read_to_string(&path).unwrap();
        let body = good.split_once('\n').unwrap().1;
        let more = body.replace("\"tests\":3", "\"tests\":4");
        for bad in [
            good.replace("\"tests\":3", "\"tests\":4"),
            good[..good.len() - 1].to_owned(),
            String::new(),
            // Not an object, though with a good digest.
            format!("{}\n[]", hash::of_parts(["[]"]).unwrap()),
        ] {
            assert_ne!(bad, good);
            fs::write(&path, bad).unwrap();
            assert_eq!(store.find("lib", &inputs()), None);
        }
        // With a digest that is right the inputs inside still have to be those that the name stands for.
        let other = inputs().with("machine", "3");
        fs::write(
            folder.path().join(other.key("lib").unwrap()),
            format!("{}\n{more}", hash::of_parts([more.as_str()]).unwrap()),
        )
        .unwrap();
        assert_eq!(store.find("lib", &other), None);
        fs::write(&path, good).unwrap();
        assert_eq!(store.find("lib", &inputs()), Some(PASSED));
    }

    #[test]
    fn what_passed_long_ago_or_in_the_future_is_asked_again() {
        let (_folder, store) = store();
        store.keep("lib", &inputs(), PASSED).unwrap();
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        let found = |at| store.find_at("lib", &inputs(), at);
        assert_eq!(found(now + AGE - second), Some(PASSED));
        assert_eq!(found(now + AGE + 2 * second), None);
        assert_eq!(found(now - 2 * second), None);
    }

    #[test]
    fn with_again_nothing_is_taken_over_and_what_passes_is_kept() {
        let (folder, mut store) = store();
        store.reads = false;
        store.keep("lib", &inputs(), PASSED).unwrap();
        assert_eq!(store.find("lib", &inputs()), None);
        store.reads = true;
        assert_eq!(store.find("lib", &inputs()), Some(PASSED));
        let closed = Store::closed();
        closed.keep("bin", &inputs(), PASSED).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn old_entries_go_and_new_ones_stay() {
        let (folder, store) = store();
        store.keep("lib", &inputs(), PASSED).unwrap();
        store.prune(SystemTime::now());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        store.prune(SystemTime::now() + AGE + Duration::from_secs(2));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
