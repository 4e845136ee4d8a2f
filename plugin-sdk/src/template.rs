//! A new plugin project, as `tcpcopy plugin new` writes it.
//!
//! Owns the files' text; writing them is left to the caller.

/// The files: where each belongs in the project, and its text with `{{name}}` (the plugin's and package's name), `{{crate}}` (the
/// same as Rust spells it), `{{sdk}}` (the SDK, as a dependency in `Cargo.toml`) and `{{version}}` (the SDK's) in it.
pub const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../template/Cargo.toml.in")),
    (".gitignore", include_str!("../template/.gitignore.in")),
    ("README.md", include_str!("../template/README.md.in")),
    (".github/workflows/ci.yml", include_str!("../template/.github/workflows/ci.yml.in")),
    ("src/lib.rs", include_str!("../template/src/lib.rs.in")),
    ("tests/transcripts.rs", include_str!("../template/tests/transcripts.rs.in")),
];

/// Version of the SDK that [`render`]'s project is made for.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names that Rust or Cargo keep for themselves and that look like a plugin's.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "plugin-sdk",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "tcpcopy-plugin-sdk",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Whether a plugin can have this name: lower-case letters, digits and single hyphens, a letter first, at most 64, and not a
/// word of Rust's or Cargo's own.
pub fn is_valid_name(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split('-').all(is_word)
        && !RESERVED.contains(&name)
}

/// The files of a project: where each belongs, and its text.
///
/// `name` is one that [`is_valid_name`] likes; with others the project does not build. `sdk_dependency` is the right side of the
/// dependency in `Cargo.toml`: `"2.0"` with its quotes, or `{ path = "…" }`.
pub fn render(name: &str, sdk_dependency: &str) -> Vec<(String, String)> {
    let crate_name = name.replace('-', "_");
    let render = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{crate}}", &crate_name)
            .replace("{{sdk}}", sdk_dependency)
            .replace("{{version}}", VERSION)
    };
    FILES.iter().map(|(path, text)| ((*path).to_owned(), render(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in() {
        for (path, text) in render("my-lines", "\"1\"") {
            // GitHub's own expressions have a dollar sign before.
            assert!(!text.replace("${{", "").contains("{{"), "{path}");
        }
    }

    #[test]
    fn names_that_cargo_or_the_interface_refuse_are_refused() {
        assert!(["redis", "my-lines", "h2"].into_iter().all(is_valid_name));
        for name in ["", "-a", "a-", "a--b", "A", "a_b", "2h", "../x", "a/b", "test", "self", "ä"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
    }
}
