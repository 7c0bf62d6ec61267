// SPDX-License-Identifier: Apache-2.0
//! Bounded polling: the only way anything here waits.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::process::tail;

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// Asks `probe` until it answers, for at most `bound`.
///
/// # Errors
/// What `probe` failed with, or that `what` did not happen in time.
pub fn until<T>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() > bound {
            bail!("{what}: not within {} s", bound.as_secs());
        }
        thread::sleep(EVERY);
    }
}

/// Polls until `probe` succeeds, for at most `bound`; when `alive` fails, as of a machine that is off, that is an error at once.
///
/// # Errors
/// With what `probe` failed with last and the end of that console.
pub fn poll<T>(
    what: &str,
    bound: Duration,
    console: &Path,
    mut alive: impl FnMut() -> Result<()>,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut last = None;
    let result = until(what, bound, || {
        alive()?;
        match probe() {
            Ok(value) => return Ok(Some(value)),
            Err(error) => last = Some(error),
        }
        Ok(None)
    });
    result.with_context(|| {
        let last = last.map(|error| format!("{error:#}")).unwrap_or_default();
        format!("last: {last}\n{}", tail(console, 25))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happens_is_an_error_that_names_it() {
        let error = until::<()>("rain", Duration::ZERO, || Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "rain: not within 0 s");
    }
}
