//! The asyncio runtime: event loops, callbacks, awaitables, the driver of handler coroutines, and read buffers.
//!
//! What it relies on beyond the documented interfaces of Python and asyncio, all of it in this folder:
//!
//! | file | what | documented as |
//! |---|---|---|
//! | `awaitable` | a task asks a future's `_asyncio_future_blocking`, `get_loop`, `add_done_callback` and `result` only | asyncio's source; `Future` duck typing |
//! | `awaitable` | `PyErr_SetObject(StopIteration, value)` without an instance ends `__next__` with that value | C API; the laziness is CPython's own |
//! | `callback` | the callback of a task is a C function named `task_wakeup`, which asks its argument for `result()` | asyncio's source |
//! | `callback` | `PyContext_Enter` and `PyContext_Exit` around a callback | C API |
//! | `handler_coroutine` | a task drives any registered `collections.abc.Coroutine`; None from `__next__` without an error is its end | `PyIter_Send`, C API |
//! | `handler_coroutine` | `eager_start=True` on `asyncio.Task` from 3.12 on | asyncio |
//! | `gc` | `PyObject_GC_UnTrack` on objects of classes without `__traverse__` | C API |
//! | `input` | asyncio releases the read buffer between the read and its delivery, uvloop after it | both sources |

pub mod awaitable;
pub mod callback;
pub mod clock;
pub mod event_loop;
pub mod fork_guard;
pub mod gc;
pub mod handler_coroutine;
pub mod input;
pub mod raised;
