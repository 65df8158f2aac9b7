//! The buffer a transport reads into: owned by Rust, exported to Python while the kernel writes into it.

use std::ffi::{c_int, c_void};
use std::sync::Mutex;

use pyo3::exceptions::{PyBufferError, PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use turnout_core::frames::FrameBuffer;
use turnout_core::sync::lock;

/// Bytes offered to one read.
const READ: usize = 256 << 10;

struct State {
    frames: FrameBuffer,
    /// Buffers handed out and not released; the memory must not move while there are any.
    exports: usize,
}

/// A read buffer: supports the writable buffer protocol, and read(2) straight into it.
#[pyclass(frozen, module = "turnout._native")]
pub struct Input {
    state: Mutex<State>,
}

impl Input {
    pub fn new(max_frame_bytes: usize) -> Self {
        Self { state: Mutex::new(State { frames: FrameBuffer::new(max_frame_bytes), exports: 0 }) }
    }

    /// Notes that `count` bytes were written into the space handed out last.
    pub fn commit(&self, count: usize) {
        lock(&self.state).frames.commit(count);
    }

    pub fn extend(&self, bytes: &[u8]) {
        lock(&self.state).frames.extend(bytes);
    }

    /// Takes the buffer out, so that what is in it stays put while Python code runs.
    pub fn take(&self) -> FrameBuffer {
        let mut state = lock(&self.state);
        let empty = state.frames.successor();
        std::mem::replace(&mut state.frames, empty)
    }

    /// Puts a buffer back. What was read meanwhile, by code that the deliveries ran, goes behind it.
    pub fn put_back(&self, mut frames: FrameBuffer) {
        let mut state = lock(&self.state);
        if state.exports == 0 {
            frames.append(&mut state.frames);
            state.frames = frames;
        } else {
            state.frames.prepend(frames);
        }
    }

    pub fn bytes(&self) -> usize {
        lock(&self.state).frames.capacity()
    }
}

#[pymethods]
impl Input {
    /// Reads once from a non-blocking file descriptor: the count, 0 at the end, -1 where it would block.
    #[cfg(unix)]
    fn read(&self, fd: c_int) -> PyResult<isize> {
        let mut state = lock(&self.state);
        if state.exports > 0 {
            return Err(PyValueError::new_err("the buffer is in use by another read"));
        }
        let spare = state.frames.spare(READ);
        // SAFETY: `spare` is a live, exclusively borrowed slice of initialised bytes; read(2) writes at most
        // its length into it. The call is non-blocking and does not call back.
        let count = unsafe { libc::read(fd, spare.as_mut_ptr().cast::<c_void>(), spare.len()) };
        if count >= 0 {
            return Ok(count);
        }
        let error = std::io::Error::last_os_error();
        match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(-1),
            _ => Err(PyOSError::new_err((error.raw_os_error(), error.to_string()))),
        }
    }

    /// The writable space behind what was read.
    ///
    /// # Safety
    /// Called by the interpreter with a valid `view`, as the buffer protocol says.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mut state = lock(&this.state);
        if state.exports > 0 {
            return Err(PyBufferError::new_err("the buffer is in use by another read"));
        }
        let spare = state.frames.spare(READ);
        let (pointer, length) = (spare.as_mut_ptr(), spare.len());
        // SAFETY: the memory is initialised, and stays where it is until the release: `spare` is the only way
        // to move it, and both it and `read` refuse while `exports` is not 0; `take` moves the buffer's owner,
        // not its allocation, and `put_back` keeps the exported allocation in place. `slf` outlives the view,
        // which holds a reference to it.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), pointer.cast::<c_void>(), length as ffi::Py_ssize_t, 0, flags)
        };
        if filled != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        state.exports = 1;
        Ok(())
    }

    /// # Safety
    /// Called by the interpreter for a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        lock(&self.state).exports = 0;
    }
}
