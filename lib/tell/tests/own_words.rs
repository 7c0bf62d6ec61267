// SPDX-License-Identifier: Apache-2.0
//! An error says its own part or passes its source through, never both: whoever prints a chain would say the source twice. Looked
//! for in every error of the workspace that is derived.

use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Fields};

/// The variants found, as `file: Name`.
#[derive(Default)]
struct Errors {
    file: String,
    with_source: usize,
    doubled: Vec<String>,
}

impl Errors {
    fn look(&mut self, name: &syn::Ident, attributes: &[Attribute], fields: &Fields) {
        let Some(message) = attributes.iter().find(|a| a.path().is_ident("error")) else {
            return;
        };
        let syn::Meta::List(message) = &message.meta else {
            return;
        };
        let message = message.tokens.to_string();
        for (index, field) in fields.iter().enumerate() {
            let name_of_field = field
                .ident
                .as_ref()
                .map_or_else(|| index.to_string(), ToString::to_string);
            let marked = |word| field.attrs.iter().any(|a| a.path().is_ident(word));
            if !marked("source") && !marked("from") && name_of_field != "source" {
                continue;
            }
            self.with_source += 1;
            if message != "transparent" && mentions(&message, &name_of_field) {
                self.doubled.push(format!("{}: {name}", self.file));
            }
        }
    }
}

/// Whether a message has `field` in it: `{field}`, `{field:…}`, or an argument that is it or calls it.
fn mentions(message: &str, field: &str) -> bool {
    let bytes = message.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    message.match_indices(field).any(|(at, _)| {
        let before = message[..at].trim_end().bytes().last();
        let after = bytes.get(at + field.len()).copied();
        match before {
            Some(b'{') => matches!(after, Some(b'}' | b':')),
            // Behind the text: `.0` or `.source`, and by its own name.
            Some(b'.' | b',' | b'(' | b'&') if message[..at].matches('"').count() >= 2 => {
                !after.is_some_and(word)
            }
            _ => false,
        }
    })
}

impl<'ast> Visit<'ast> for Errors {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.look(&item.ident, &item.attrs, &item.fields);
        syn::visit::visit_item_struct(self, item);
    }

    fn visit_variant(&mut self, item: &'ast syn::Variant) {
        self.look(&item.ident, &item.attrs, &item.fields);
        syn::visit::visit_variant(self, item);
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        if path.is_dir() && !name.is_some_and(|name| name == "target" || name.starts_with('.')) {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn look_at(file: &str, text: &str, errors: &mut Errors) {
    file.clone_into(&mut errors.file);
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    errors.visit_file(&parsed);
}

#[test]
fn no_error_of_the_workspace_says_its_sources_words() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&top, &mut files);
    let mut errors = Errors::default();
    for file in &files {
        let text = fs::read_to_string(file).expect("a source file");
        let shown = file.strip_prefix(&top).expect("below the top");
        look_at(&shown.display().to_string(), &text, &mut errors);
    }
    assert!(errors.with_source > 100, "the sources were looked at");
    assert!(
        errors.doubled.is_empty(),
        "their messages show their sources, which are told anyway (leave them out, or write #[error(transparent)]):\n{}",
        errors.doubled.join("\n")
    );
}

#[test]
fn a_message_with_its_source_in_it_is_found() {
    for (field, doubled) in [
        (r#"#[error("read: {0}")] A(#[from] E)"#, true),
        (r#"#[error("read {0}: {1:?}")] A(P, #[source] E)"#, true),
        (
            r#"#[error("{path}: {source}")] A { path: P, source: E }"#,
            true,
        ),
        (r#"#[error("{}", first(.0))] A(#[source] E)"#, true),
        (r#"#[error("{}", source.code())] A { source: E }"#, true),
        (r#"#[error(transparent)] A(#[from] E)"#, false),
        (r#"#[error("read {0}")] A(P, #[source] E)"#, false),
        (
            r#"#[error("the source of {path}")] A { path: P, source: E }"#,
            false,
        ),
        (r#"#[error("{0} of 1")] A(u8, #[source] E)"#, false),
        (r#"#[error("read: {0}")] A(String)"#, false),
    ] {
        let mut errors = Errors::default();
        look_at("x.rs", &format!("enum X {{ {field} }}"), &mut errors);
        assert_eq!(!errors.doubled.is_empty(), doubled, "{field}");
    }
}
