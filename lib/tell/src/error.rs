// SPDX-License-Identifier: Apache-2.0
//! How an error and what led to it are told: on the console, in messages between daemons and to people.
//!
//! Each error says its own part and leaves the rest to its source, or it is transparent: `tests/own_words.rs` looks for those that
//! do both, which would be told twice here.

use std::error::Error;
use std::fmt::{self, Display};

/// An error with everything that led to it, on one line: `fetch the payload: connect to git.example: connection refused`.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a dyn Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, error) in causes(self.0).enumerate() {
            let colon = if level > 0 { ": " } else { "" };
            write!(f, "{colon}{error}")?;
        }
        Ok(())
    }
}

/// [`Chain`] as a text.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    Chain(error).to_string()
}

/// An error, then each that led to it.
pub fn causes<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = &'a (dyn Error + 'a)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'a)| {
        let error: &'a (dyn Error + 'a) = *error;
        error.source().map(|source| source as &(dyn Error + 'a))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Says(&'static str, #[source] Option<Box<Says>>);

    #[test]
    fn an_error_is_told_with_its_causes_in_order() {
        let told = |texts: &[&'static str]| {
            let error = texts
                .iter()
                .rev()
                .fold(None, |source, text| Some(Box::new(Says(text, source))));
            chain(&error.expect("an error"))
        };
        assert_eq!(told(&["fetch"]), "fetch");
        assert_eq!(
            told(&["fetch", "connect", "refused"]),
            "fetch: connect: refused"
        );
    }
}
