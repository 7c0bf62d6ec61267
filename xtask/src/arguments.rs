// SPDX-License-Identifier: Apache-2.0
//! The command line: what each task may be given is a table, by which it is read and explained. A parser as a dependency, with
//! what it derives, would be two thirds of the time until `cargo xtask` says its first word.

use anyhow::{Result, bail};

use crate::architecture::Architecture;

/// Something that a developer asks for.
pub(crate) struct Task {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What it may be given, and what for: `--flag`, `--option VALUE`, or `WORDS`.
    pub(crate) takes: &'static [(&'static str, &'static str)],
    pub(crate) run: fn(&Given) -> Result<()>,
}

/// What a task was given; nothing else than its table has.
#[derive(Debug, Default)]
pub(crate) struct Given {
    options: Vec<(String, String)>,
    /// What is no option, in order.
    pub(crate) words: Vec<String>,
}

impl Given {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.options.iter().any(|(name, _)| name == flag)
    }

    /// The value that was given last.
    pub(crate) fn value(&self, option: &str) -> Option<&str> {
        self.values(option).last()
    }

    /// Those that `--for` names, repeated for more; these when it is left out.
    pub(crate) fn architectures(
        &self,
        otherwise: &[&'static Architecture],
    ) -> Result<Vec<&'static Architecture>> {
        let named: Vec<_> = self
            .values("--for")
            .map(Architecture::named)
            .collect::<Result<_>>()?;
        Ok(match named.is_empty() {
            true => otherwise.to_vec(),
            false => named,
        })
    }

    pub(crate) fn values(&self, option: &str) -> impl Iterator<Item = &str> {
        let of = move |(name, _): &&(String, String)| name == option;
        self.options.iter().filter(of).map(|(_, value)| &**value)
    }
}

impl Task {
    /// Reads the words behind the task's name.
    pub(crate) fn read(&self, words: impl IntoIterator<Item = String>) -> Result<Given> {
        let mut given = Given::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                let Some(_) = self.takes.iter().find(|(form, _)| !form.starts_with('-')) else {
                    bail!("{word:?} means nothing here\n\n{}", self.help());
                };
                given.words.push(word);
                continue;
            }
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let form = self.takes.iter().find_map(|(form, _)| {
                let (option, value) = form.split_once(' ').unwrap_or((form, ""));
                (option == name).then_some(value)
            });
            let value = match (form, inline) {
                (None, _) => bail!("there is no option {name}\n\n{}", self.help()),
                (Some(""), None) => String::new(),
                (Some(""), Some(_)) => bail!("{name} takes no value"),
                (Some(_), Some(value)) => value,
                (Some(what), None) => match words.next() {
                    Some(value) => value,
                    None => bail!("{name} wants its {what}"),
                },
            };
            given.options.push((name, value));
        }
        Ok(given)
    }

    pub(crate) fn help(&self) -> String {
        let mut text = format!("cargo xtask {}: {}\n", self.name, self.about);
        for (form, why) in self.takes {
            text += &format!("  {form:18} {why}\n");
        }
        text
    }
}

/// All tasks in a line each.
pub(crate) fn overview(tasks: &[Task]) -> String {
    let mut text = "cargo xtask TASK: builds, tests and demonstrates Racklet\n\n".to_owned();
    for task in tasks {
        text += &format!("  {:10} {}\n", task.name, task.about);
    }
    text + "\n`cargo xtask TASK --help` says what a task may be given.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: Task = Task {
        name: "bake",
        about: "bakes",
        takes: &[
            ("--hot", "very"),
            ("--for MINUTES", "how long"),
            ("CAKES", "which"),
        ],
        run: |_| Ok(()),
    };

    fn read(line: &str) -> Result<Given> {
        TASK.read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_values_and_words_come_in_any_order() {
        let given = read("apple --for 5 --hot plum --for=7").unwrap();
        assert!(given.has("--hot"));
        assert_eq!(given.values("--for").collect::<Vec<_>>(), ["5", "7"]);
        assert_eq!(given.value("--for"), Some("7"));
        assert_eq!(given.words, ["apple", "plum"]);
        assert!(!read("").unwrap().has("--hot"));
    }

    #[test]
    fn what_is_not_in_the_table_is_refused_with_what_is() {
        for (line, said) in [
            ("--cold", "no option --cold"),
            ("--hot=1", "--hot takes no value"),
            ("--for", "--for wants its MINUTES"),
            ("-h", "no option -h"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(
            read("--cold")
                .unwrap_err()
                .to_string()
                .contains("--for MINUTES")
        );
        let plain = Task { takes: &[], ..TASK };
        assert!(plain.read(["apple".to_owned()]).is_err());
    }
}
