// SPDX-License-Identifier: Apache-2.0
//! Bounded polling: the only way anything here waits.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happens_is_an_error_that_names_it() {
        let error = until::<()>("rain", Duration::ZERO, || Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "rain: not within 0 s");
    }
}
