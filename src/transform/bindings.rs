//! Types and traits that `bindgen!` makes of `wit/`, and nothing else.

// `Borrowing`: nothing is copied before it goes into a guest. Types that travel both ways exist twice, as `…Param`
// (borrowed, into the guest) and as `…Result` (owned, out of it).
wasmtime::component::bindgen!({
    path: "wit",
    world: "handler",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
});
