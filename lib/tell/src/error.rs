// SPDX-License-Identifier: Apache-2.0
//! How an error and what led to it are told: on the console, in messages between daemons and to people.

use std::error::Error;
use std::fmt::{self, Display};

/// An error with everything that led to it, on one line: `fetch the payload: connect to git.example: connection refused`.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a dyn Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, text) in causes(self.0).enumerate() {
            let colon = if level > 0 { ": " } else { "" };
            write!(f, "{colon}{text}")?;
        }
        Ok(())
    }
}

/// [`Chain`] as a text.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    Chain(error).to_string()
}

/// What an error says, then what each that led to it says. One that ends in its source's words has said them already.
pub fn causes<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = String> + 'a {
    let mut said = String::new();
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'a)| {
        let error: &'a (dyn Error + 'a) = *error;
        error.source().map(|source| source as &(dyn Error + 'a))
    })
    .map(ToString::to_string)
    .filter(move |text| {
        let new = said.is_empty() || !said.ends_with(text.as_str());
        said.clone_from(text);
        new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Says(&'static str, #[source] Option<Box<Says>>);

    fn told(texts: &[&'static str]) -> String {
        let error = texts
            .iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Says(text, source))));
        chain(&error.expect("an error"))
    }

    #[test]
    fn an_error_is_told_with_its_causes_in_order() {
        assert_eq!(told(&["fetch"]), "fetch");
        assert_eq!(
            told(&["fetch", "connect", "refused"]),
            "fetch: connect: refused"
        );
    }

    #[test]
    fn what_an_error_says_in_its_sources_words_is_told_once() {
        assert_eq!(told(&["read: no space", "no space"]), "read: no space");
        assert_eq!(told(&["same", "same", "other"]), "same: other");
    }
}
