//! How a connection reaches its transport.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::connection::output::recycle;
use turnout_core::connection::posts::Posts;
use turnout_core::connection::streams::AddressedOutput;
use turnout_core::sync::lock;

use crate::asyncio::internals::{Py_buffer, fill_view};
use crate::asyncio::raised;

/// Bytes from which on a view costs less than a copy.
pub const LARGE: usize = 64 << 10;

/// The transport, while the connection is attached to one.
#[derive(Default)]
pub struct Transport {
    writer: Mutex<Option<Writer>>,
    /// Where messages go that are not written to the transport itself. It has the connection, which therefore does not
    /// have it.
    outlet: OnceLock<Outlet>,
}

/// Where the messages of a connection go that are not written to its transport.
#[derive(Clone)]
pub enum Outlet {
    /// To the streams that they are for.
    Streams(Weak<dyn StreamWriter>),
    /// Each by itself.
    Posts(Weak<dyn PostWriter>),
}

/// Writes the messages of a connection to the streams that they are for.
pub trait StreamWriter: Send + Sync {
    /// Writes frames to their streams, and ends streams.
    fn write(&self, py: Python<'_>, output: AddressedOutput);
}

/// Posts the messages of a connection.
pub trait PostWriter: Send + Sync {
    /// Posts messages, and closes streams.
    fn post(self: Arc<Self>, py: Python<'_>, posts: Posts);
}

impl Transport {
    pub fn set(&self, writer: Writer) {
        let before = lock(&self.writer).replace(writer);
        drop(before);
    }

    /// Lets go of it.
    pub fn leave(&self) {
        let writer = lock(&self.writer).take();
        drop(writer);
    }

    /// Has messages go elsewhere from now on.
    pub fn redirect(&self, outlet: Outlet) {
        let _ = self.outlet.set(outlet);
    }

    /// Where these go; None where they are written to the transport.
    pub fn outlet(&self) -> Option<&Outlet> {
        self.outlet.get()
    }

    pub fn writer(&self, py: Python<'_>) -> Option<Writer> {
        lock(&self.writer).as_ref().map(|writer| writer.clone_ref(py))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(writer) = self.writer.try_lock()
            && let Some(writer) = &*writer
        {
            visit.call(&writer.write)?;
            visit.call(&writer.unread)?;
        }
        Ok(())
    }
}

/// What writes to a transport.
pub struct Writer {
    write: Py<PyAny>,
    /// Whether it takes views of what is large, and not only `bytes`.
    takes_views: bool,
    /// Gives how many bytes of those written the peer has not read, or None where that cannot be told.
    unread: Option<Py<PyAny>>,
}

impl Writer {
    pub const fn new(write: Py<PyAny>, takes_views: bool, unread: Option<Py<PyAny>>) -> Self {
        Self { write, takes_views, unread }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let unread = self.unread.as_ref().map(|unread| unread.clone_ref(py));
        Self { write: self.write.clone_ref(py), takes_views: self.takes_views, unread }
    }

    /// Bytes that the peer has not read; None where that cannot be told.
    pub fn unread(&self, py: Python<'_>) -> Option<u64> {
        let unread = self.unread.as_ref()?.bind(py);
        unread.call0().and_then(|told| told.extract()).unwrap_or_else(|error| {
            raised::report(py, None, error, Some(unread));
            None
        })
    }

    pub fn write(&self, py: Python<'_>, bytes: Vec<u8>) -> PyResult<()> {
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
