//! The asyncio runtime: event loops, callbacks, awaitables, the driver of handler coroutines, and read buffers.
//!
//! [`internals`] lists what it relies on beyond the documented interfaces of Python and asyncio, and is the only file
//! that names any of it.

pub mod awaitable;
pub mod callback;
pub mod clock;
pub mod event_loop;
pub mod fork_guard;
pub mod gc;
pub mod handler_coroutine;
pub mod input;
pub mod internals;
pub mod raised;
pub mod scheduler;
pub mod timer;
