//! FireFlow's service: its settings, the listener of connections, the commands of the binary, and the
//! wiring of all other crates. See README.md.

// Applies to every program that links the service, including the benchmarks and their baselines.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub mod cli;
mod clock;
pub mod listener;
pub mod settings;
