//! `Language`: what a handler is written in.

use std::fmt;

/// A language in which handlers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Rust, with cargo.
    Rust,
    /// Go, with its own compiler.
    Go,
    /// JavaScript, with npm.
    JavaScript,
    /// TypeScript, with npm.
    TypeScript,
    /// Python, with pip.
    Python,
}

impl Language {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Rust, Self::Go, Self::JavaScript, Self::TypeScript, Self::Python];

    /// The name on the command line, which is that of the template's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::JavaScript => "js",
            Self::TypeScript => "ts",
            Self::Python => "python",
        }
    }

    /// The folder of the SDK in `plugins/sdk`.
    pub(super) fn sdk(self) -> &'static str {
        match self {
            Self::TypeScript => "js",
            other => other.name(),
        }
    }

    /// Other names that people write for it.
    pub fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["rs"],
            Self::Go => &["golang"],
            Self::JavaScript => &["javascript", "node"],
            Self::TypeScript => &["typescript"],
            Self::Python => &["py", "python3"],
        }
    }

    /// The language of that name, or of one of its aliases, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        Self::ALL.into_iter().find(|language| language.name() == name || language.aliases().contains(&name.as_str()))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Go => "Go",
            Self::JavaScript => "JavaScript",
            Self::TypeScript => "TypeScript",
            Self::Python => "Python",
        })
    }
}
