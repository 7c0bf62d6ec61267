// SPDX-License-Identifier: Apache-2.0
//! OpenMetrics text (version 1.0.0 of the specification): families, their samples, the end.

use std::fmt::{Display, Write};

/// The text's media type.
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page that is being written. The samples of a family come together, behind its declaration.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Declares a family. `kind` is one of the specification's: `counter`, `gauge`, `info`, `stateset`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    /// A sample of the family declared last; a counter's name ends in `_total`, an info's in `_info`. The value is a number.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (key, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{key}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// The whole page with its end.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_says_cannot_end_it() {
        let mut page = Page::default();
        page.family("a", "counter", "What is counted.");
        page.sample("a_total", &[], 1);
        page.sample("a_total", &[("x", "1\" \\\n"), ("y", "")], 2);
        assert_eq!(
            page.finish(),
            "# TYPE a counter\n# HELP a What is counted.\na_total 1\na_total{x=\"1\\\" \\\\\\n\",y=\"\"} 2\n# EOF\n"
        );
    }
}
