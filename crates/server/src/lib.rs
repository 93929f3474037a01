//! FireFlow's service: its settings, the listener of connections, the commands of the binary, and the
//! wiring of all other crates. See README.md.

/// For all that links the service, what it is measured against included.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod cli;
mod clock;
pub mod listener;
pub mod settings;
