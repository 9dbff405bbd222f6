//! How much work a component makes for the compiler, found out before the compiler sees it.

use wasmparser::{Parser, Payload};

/// Functions of all modules of a component: several times what an interpreter with its libraries has.
const FUNCTIONS: u64 = 200_000;

/// Bytes of one function. Compiling takes longer than in proportion to it; the main loop of an interpreter has a fifth.
const FUNCTION_BYTES: usize = 1 << 20;

/// Modules and components inside a component, at any depth.
const PARTS: u64 = 1000;

/// What is too much, in words; none if the component is within bounds. What cannot be read is left to the compiler, which
/// refuses it before it works.
pub(super) fn excess(component: &[u8]) -> Option<String> {
    let (mut functions, mut parts) = (0, 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::CodeSectionStart { count, .. } => functions += u64::from(count),
            Payload::CodeSectionEntry(body) if body.range().len() > FUNCTION_BYTES => {
                return Some(format!(
                    "it has a function of {} bytes, at most {FUNCTION_BYTES} are compiled",
                    body.range().len()
                ));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => parts += 1,
            _ => {}
        }
        if functions > FUNCTIONS {
            return Some(format!("it has more than {FUNCTIONS} functions"));
        }
        if parts > PARTS {
            return Some(format!("it has more than {PARTS} modules and components in it"));
        }
    }
    None
}
