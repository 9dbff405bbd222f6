//! `Engine`: one per process; compiles handlers, owns the pool of their memories and the ticker of
//! their deadlines.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::cache::Cache;
use super::compiler::Compiler;
use super::cpu::{Cpu, Share};
use super::limits::{CORE_INSTANCES, MEMORIES, TABLE_ELEMENTS, TABLES};
use crate::error::{Error, Fault, Result};
use crate::meter::EngineMeter;

/// Stack of a guest: twice wasmtime's default, for JavaScript and Python, whose interpreters
/// recurse.
pub(super) const GUEST_STACK: usize = 1 << 20;

/// Stack of a thread that runs guests: the guest's, and as much again and more for what the host
/// does below it.
pub(super) const THREAD_STACK: usize = 4 * GUEST_STACK;

/// Instances in one process. There is room for all that each of them may have, so that nobody's
/// components take the places of others. A memory reserves 4 GiB of addresses, which costs nothing
/// but addresses: 2 of 128 TiB.
const INSTANCES: u32 = 256;

/// The part of the machine that the engine may have.
#[derive(Clone, Debug)]
pub struct Resources<'a> {
    /// The folder in which compiled components are kept; None if none are kept.
    pub cache_dir: Option<&'a Path>,
    /// Bytes of compiled components that are kept; beyond them the longest unused go.
    pub cache_bytes: u64,
    /// The largest number of guests that compute at once.
    pub cores: usize,
    /// The compiler of components.
    pub compiler: Compiler,
}

impl Default for Resources<'_> {
    /// All cores, no cache, and a compiler in this process.
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_bytes: 1 << 30,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            compiler: Compiler::in_process(),
        }
    }
}

/// The things that all handlers of a process share. Cheap to clone; the ticker ends with the last
/// clone.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    cpu: Cpu,
    cache: Option<Arc<Cache>>,
    compiler: Compiler,
    meter: Arc<EngineMeter>,
}

impl Engine {
    /// Starts the engine on all cores. Compiled components are kept in `cache_dir`, which becomes
    /// readable by this user only: whoever can write to it can make the host run anything.
    ///
    /// Fails with `Environment` if the folder cannot be made or is another user's.
    pub fn new(cache_dir: Option<&Path>) -> Result<Self> {
        Self::with(&Resources { cache_dir, ..Resources::default() })
    }

    /// As `new`, with as much of the machine as `resources` says.
    pub fn with(resources: &Resources<'_>) -> Result<Self> {
        let cache = resources.cache_dir.map(|folder| open_cache(folder, resources.cache_bytes)).transpose()?;
        let wasmtime = wasmtime::Engine::new(config().allocation_strategy(pool())).map_err(|error| {
            Error::new(Fault::Environment, "the WebAssembly engine did not start")
                .because(error)
                .help("it reserves 2 TiB of addresses, not of memory: allow that with `ulimit -v unlimited`")
        })?;
        let engine = wasmtime.weak();
        let tick = move || {
            if let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
            }
        };
        let compiler = resources.compiler.clone();
        let (cpu, meter) = (Cpu::start(resources.cores, tick)?, Arc::default());
        Ok(Self { cpu, cache: cache.map(Arc::new), compiler, wasmtime, meter })
    }

    /// The component of `bytes`, compiled now or before.
    pub(super) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Component> {
        let compiled = Cell::new(false);
        let compile = || {
            compiled.set(true);
            self.compiler.compile(&self.wasmtime, bytes)
        };
        let component = match &self.cache {
            Some(cache) => cache.compiled_by(&self.wasmtime, bytes, compile),
            None => compile(),
        }?;
        let counter = if compiled.get() { &self.meter.compiled } else { &self.meter.cached };
        counter.add(1);
        Ok(component)
    }

    /// The counts of it.
    pub fn meter(&self) -> &EngineMeter {
        &self.meter
    }

    /// The number of guests that compute now, and of those that can at once.
    pub fn cpu_slots(&self) -> (usize, usize) {
        self.cpu.level()
    }

    pub(super) fn share(&self, weight: u32) -> Share {
        self.cpu.share(weight)
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }
}

/// An engine for a process that runs nothing: it makes the same machine code, and reserves no
/// memory for instances.
pub(super) fn that_only_compiles() -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config())
}

fn pool() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * CORE_INSTANCES)
        .total_memories(INSTANCES * MEMORIES)
        .total_tables(INSTANCES * TABLES)
        .total_stacks(1) // guests are called synchronously, on their threads' own stacks
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(2) // an adapter's module imports one and has one
        .max_tables_per_module(4)
        .table_elements(TABLE_ELEMENTS)
        .max_component_instance_size(1 << 20) // StarlingMonkey's is 60 KiB
        .max_core_instance_size(4 << 20) // QuickJS' and Python's exceed the default of 1 MiB by little
        .max_memory_size(4 << 30) // what a 32-bit memory can be; each instance's own limit lies below
        .max_unused_warm_slots(16); // instances live long, few slots turn cold
    InstanceAllocationStrategy::Pooling(pool)
}

/// Returns the settings that machine code depends on, and with which guests run.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false) // our world is synchronous; what is not needed cannot be attacked
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(THREAD_STACK)
        .wasm_relaxed_simd(false) // results differ between machines
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_multi_memory(true); // joins of a component with its adapter need it
    config
}

fn open_cache(folder: &Path, max_bytes: u64) -> Result<Cache> {
    Cache::open(folder, max_bytes).map_err(|error| {
        Error::new(Fault::Environment, format!("the cache folder `{}` cannot be used", folder.display()))
            .because(error)
            .help("it holds compiled handlers: give it a folder that belongs to the user who runs the host")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_compiled_elsewhere_fits() {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let of = |engine: &wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(of(&that_only_compiles().unwrap()), of(Engine::new(None).unwrap().wasmtime()));
    }

    #[test]
    fn the_cache_folder_is_closed_to_others() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("a/cache");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        Engine::new(Some(&folder)).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_cache_folder_that_is_a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Engine::new(Some(file.path())).err().unwrap();
        assert_eq!(error.fault(), Fault::Environment);
    }
}
