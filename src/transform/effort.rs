//! Counts of the work that a component makes for the compiler, made before the compiler sees it.

use wasmparser::{CompositeInnerType, FunctionBody, Operator, Parser, Payload};

/// Bytes of a component: three times the largest that any toolchain makes of a small handler.
/// Bounds what compiling takes.
pub(super) const COMPONENT_BYTES: u64 = 128 << 20;

/// Functions of all modules of a component: several times what an interpreter with its libraries
/// has.
const FUNCTIONS: u64 = 200_000;

/// Bytes of one function. Compiling takes longer than in proportion to it; the main loop of an
/// interpreter has a fifth.
const FUNCTION_BYTES: usize = 1 << 20;

/// Modules and components inside a component, at any depth.
const PARTS: u64 = 1000;

/// Blocks of a function times its variables: the compiler may keep a note on each variable for each
/// block.
const BLOCKS_BY_VARIABLES: u64 = 8_000_000;

/// The same for loops alone, of which each has to be thought through for each variable.
const LOOPS_BY_VARIABLES: u64 = 100_000;

/// Returns in words what is too much inside the functions. Reads all code, so it is for whoever is
/// about to compile it.
pub(super) fn excess_within(component: &[u8]) -> Option<String> {
    let mut parameters = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::TypeSection(types) => {
                let types = types.into_iter().map_while(Result::ok).flat_map(|group| group.into_types());
                let counts = types.map(|kind| match kind.composite_type.inner {
                    CompositeInnerType::Func(function) => function.params().len() as u64,
                    _ => 0,
                });
                parameters = counts.fold(parameters, u64::max); // of any function so far: too many are no harm
            }
            Payload::CodeSectionEntry(body) => {
                let work = Work::of(&body, parameters)?;
                for (what, product, limit) in [
                    ("loops", work.loops.saturating_mul(work.variables), LOOPS_BY_VARIABLES),
                    ("blocks", work.blocks.saturating_mul(work.variables), BLOCKS_BY_VARIABLES),
                ] {
                    if product > limit {
                        return Some(format!(
                            "it has a function whose {what} times its variables are {product}, at most {limit} are compiled"
                        ));
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// The counts that make a function hard to compile.
#[derive(Debug)]
struct Work {
    variables: u64,
    blocks: u64,
    loops: u64,
}

impl Work {
    fn of(body: &FunctionBody<'_>, parameters: u64) -> Option<Self> {
        let locals = body.get_locals_reader().ok()?;
        let locals = locals.into_iter().map_while(Result::ok).fold(0, |sum: u64, (count, _)| sum + u64::from(count));
        let mut work = Self { variables: parameters + locals, blocks: 1, loops: 0 };
        for operator in body.get_operators_reader().ok()? {
            match operator.ok()? {
                Operator::Loop { .. } => (work.loops, work.blocks) = (work.loops + 1, work.blocks + 1),
                Operator::Block { .. } | Operator::If { .. } | Operator::Else | Operator::BrIf { .. } => {
                    work.blocks += 1
                }
                _ => {}
            }
        }
        Some(work)
    }
}

/// Returns in words what is too much; None if the component is within bounds. Parts that cannot be
/// read are left to the compiler, which refuses them before it works.
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
