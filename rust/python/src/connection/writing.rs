//! Writing: from the core's output to the transport.

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use turnout_core::connection::output::recycle;
use turnout_core::sync::lock;

use crate::asyncio::event_loop::this_thread;
use crate::asyncio::internals::{Py_buffer, fill_view};
use crate::asyncio::raised;
use crate::connection::Connection;
use crate::connection::driver::Driver;
use crate::connection::memory;

/// Bytes from which on a view costs less than a copy.
const LARGE: usize = 64 << 10;

/// How a connection reaches its transport.
pub struct Writer {
    pub write: Py<PyAny>,
    /// Whether it takes views of what is large, and not only `bytes`.
    pub takes_views: bool,
    /// Gives how many bytes of those written the peer has not read, or None where that cannot be told.
    pub unread: Option<Py<PyAny>>,
}

impl Writer {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        let unread = self.unread.as_ref().map(|unread| unread.clone_ref(py));
        Self { write: self.write.clone_ref(py), takes_views: self.takes_views, unread }
    }

    /// Bytes that the peer has not read; None where that cannot be told.
    fn unread(&self, py: Python<'_>) -> Option<u64> {
        let unread = self.unread.as_ref()?.bind(py);
        unread.call0().and_then(|told| told.extract()).unwrap_or_else(|error| {
            raised::report(py, None, error, Some(unread));
            None
        })
    }

    fn write(&self, py: Python<'_>, bytes: Vec<u8>) -> PyResult<()> {
        // A view keeps the whole buffer, which may be larger by far.
        let bytes = if self.takes_views && bytes.len() >= LARGE && bytes.capacity() / 4 <= bytes.len() {
            let outgoing = Bound::new(py, Outgoing(bytes))?;
            PyMemoryView::from(&outgoing)?.into_any()
        } else {
            let copied = PyBytes::new(py, &bytes);
            recycle(bytes);
            copied.into_any()
        };
        self.write.bind(py).call1((bytes,)).map(drop)
    }
}

/// Bytes on their way out, where the core wrote them; their memory is used again when nobody sees them any more.
#[pyclass(frozen, module = "turnout._native")]
struct Outgoing(Vec<u8>);

impl Drop for Outgoing {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.0));
    }
}

#[pymethods]
impl Outgoing {
    /// The bytes, read-only.
    ///
    /// # Safety
    /// Called by the interpreter with a valid `view`, as the buffer protocol says.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        let pointer = bytes.as_ptr().cast_mut();
        // SAFETY: `view` is the interpreter's. The class is frozen and nothing in it changes the bytes before they are
        // dropped. The view is read-only, whatever the pointer's type says.
        unsafe { fill_view(view, &slf, pointer, bytes.len(), true, flags) }
    }
}

/// What one write took.
#[derive(Default)]
pub struct Written {
    pub any: bool,
    pub one: bool,
    pub left: bool,
}

impl Driver {
    /// Schedules a flush in the next iteration of the loop; from any thread.
    pub fn schedule_flush(&self, py: Python<'_>) -> PyResult<()> {
        if !self.flush_scheduled.arm() {
            return Ok(());
        }
        let Some(binding) = self.loop_binding() else { return Ok(()) };
        let scheduled = binding.soon(py, &binding.flush);
        if scheduled.is_err() {
            self.flush_scheduled.disarm();
        }
        scheduled?;
        if self.uncorked.load(Ordering::Relaxed) && this_thread() == binding.thread {
            self.write_out(py).map(drop)?;
        }
        Ok(())
    }

    /// Writes the output to the transport; returns whether there was any, whether it was one frame, and whether
    /// more is left.
    pub fn write_out(&self, py: Python<'_>) -> PyResult<Written> {
        self.fork_guard.check()?;
        let now = self.now();
        let Some(writer) = lock(&self.writer).as_ref().map(|writer| writer.clone_ref(py)) else {
            return Ok(Written::default());
        };
        let (taken, left) = {
            let mut core = lock(&self.core);
            if core.needs_unread(now) {
                drop(core);
                let unread = writer.unread(py);
                core = lock(&self.core);
                core.note_unread(now, unread);
            }
            let none = core.is_congested() || core.output_ready() == 0;
            let taken = if none { Vec::new() } else { core.drain_output(now) };
            self.settle_account(&mut core);
            (taken, !core.is_congested() && core.output_ready() > 0)
        };
        if taken.is_empty() {
            return Ok(Written { any: false, one: false, left });
        }
        let size = taken.len();
        let one = taken.iter().position(|byte| *byte == b'\n') == Some(taken.len() - 1);
        if let Err(error) = writer.write(py, taken) {
            self.broke(py, error);
            return Ok(Written::default());
        }
        // What the transport did not take it holds for us.
        if size >= LARGE {
            let mut core = lock(&self.core);
            if core.is_congested() {
                core.note_transport(size);
            }
        }
        Ok(Written { any: true, one, left })
    }

    /// Ends the connection, since its transport may have lost what it was given: nothing can follow that.
    fn broke(&self, py: Python<'_>, error: PyErr) {
        drop(lock(&self.writer).take());
        let value = error.clone_ref(py).into_value(py);
        self.report_error(py, error);
        if let Some(connection) = self.connection(py) {
            let ended = match connection.get().host(py) {
                Some(host) => host.call_method1(intern!(py, "write_failed"), (value,)).map(drop),
                None => Connection::end(&connection, "peer_closed", None),
            };
            self.report_failed(py, ended, None);
        }
    }

    /// Writes what waits to the transport.
    pub fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.flush_scheduled.disarm();
        let written = self.write_out(py)?;
        // An iteration that began with one frame and went on with others ends the uncorked mode.
        let was_uncorked = self.uncorked.load(Ordering::Relaxed);
        self.uncorked.store(if was_uncorked { !written.any } else { written.one }, Ordering::Relaxed);
        if written.left {
            self.schedule_flush(py)?;
        }
        let next = lock(&self.core).next_deadline();
        memory::settle();
        self.set_timer(py, next, self.now())
    }
}
