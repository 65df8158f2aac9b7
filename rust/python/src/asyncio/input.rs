//! The buffer a transport reads into: owned by Rust, exported to Python while the kernel writes into it.

use std::ffi::{c_int, c_void};
use std::sync::Mutex;

use pyo3::exceptions::{PyBufferError, PyOSError};
use pyo3::prelude::*;
use turnout_core::sync::lock;
use turnout_core::wire::frames::FrameBuffer;

use crate::asyncio::internals::{Py_buffer, fill_view};

/// Most bytes offered to one read.
const MOST: usize = 256 << 10;

/// Fewest bytes offered to one read.
const LEAST: usize = 16 << 10;

struct State {
    /// None while its frames are being delivered.
    frames: Option<FrameBuffer>,
    /// Bytes that callbacks fed during a delivery; appended afterwards.
    meanwhile: Vec<u8>,
    /// Bytes offered to the next read; follows what the peer sends.
    offer: usize,
    /// Whether the space is handed out and not released: its memory must not move.
    exported: bool,
    /// Whether what was read into it was delivered before its release, as uvloop does it.
    delivered: bool,
}

#[doc = text!("Input")]
#[pyclass(frozen, module = "turnout._native")]
pub struct Input {
    state: Mutex<State>,
}

impl State {
    fn spare(&mut self) -> PyResult<&mut [u8]> {
        if self.exported {
            return Err(PyBufferError::new_err("the buffer is in use by another read"));
        }
        let offer = self.offer;
        match &mut self.frames {
            Some(frames) => Ok(frames.spare(offer)),
            None => Err(PyBufferError::new_err("the buffer is being delivered")),
        }
    }
}

impl Input {
    pub const fn new(max_frame_bytes: usize) -> Self {
        let frames = Some(FrameBuffer::new(max_frame_bytes));
        let meanwhile = Vec::new();
        let state = State { frames, meanwhile, offer: LEAST, exported: false, delivered: false };
        Self { state: Mutex::new(state) }
    }

    /// Notes that `count` bytes were written into the space handed out last.
    pub fn commit(&self, count: usize) {
        let mut state = lock(&self.state);
        if let Some(frames) = &mut state.frames {
            frames.commit(count);
        }
        state.offer = if count >= state.offer {
            (state.offer * 4).min(MOST)
        } else if count < state.offer / 8 {
            (state.offer / 2).max(LEAST)
        } else {
            state.offer
        };
    }

    pub fn extend(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let exported = state.exported;
        match &mut state.frames {
            Some(frames) if !exported => frames.extend(bytes),
            _ => state.meanwhile.extend_from_slice(bytes),
        }
    }

    /// Notes that no more bytes will come.
    pub fn end(&self) {
        if let Some(frames) = &mut lock(&self.state).frames {
            frames.end();
        }
    }

    /// Detaches the buffer, so that its frames stay valid while Python code runs; None while it is detached.
    pub fn detach(&self) -> Option<FrameBuffer> {
        lock(&self.state).frames.take()
    }

    /// Reattaches the buffer; true where more was fed meanwhile.
    pub fn reattach(&self, mut frames: FrameBuffer) -> bool {
        let mut state = lock(&self.state);
        frames.consume(!state.exported);
        state.delivered = state.exported;
        let meanwhile = if state.exported { Vec::new() } else { std::mem::take(&mut state.meanwhile) };
        frames.extend(&meanwhile);
        state.frames = Some(frames);
        !meanwhile.is_empty()
    }

    /// Lets go of what was read of an unfinished frame, unless it is in use.
    pub fn clear(&self) {
        let mut state = lock(&self.state);
        if !state.exported
            && let Some(frames) = &mut state.frames
        {
            frames.clear();
        }
    }

    pub fn bytes(&self) -> usize {
        let state = lock(&self.state);
        state.frames.as_ref().map_or(0, FrameBuffer::capacity) + state.meanwhile.capacity()
    }
}

#[pymethods]
impl Input {
    #[doc = text!("Input.read")]
    #[cfg(unix)]
    fn read(&self, fd: c_int) -> PyResult<isize> {
        let mut state = lock(&self.state);
        let spare = state.spare()?;
        // SAFETY: `spare` is a live, exclusively borrowed slice of initialised bytes; read(2) writes at most
        // its length into it. The call does not block and does not call back.
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

    // Bytes offered to the next read.
    fn __len__(&self) -> usize {
        lock(&self.state).offer
    }

    /// The writable space behind what was read.
    ///
    /// # Safety
    /// Called by the interpreter with a valid `view`, as the buffer protocol says.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mut state = lock(&this.state);
        let offer = state.offer;
        let spare = &mut state.spare()?[..offer];
        let (pointer, length) = (spare.as_mut_ptr(), spare.len());
        // SAFETY: `view` is the interpreter's. The memory is initialised, and stays where it is until the release:
        // `State::spare` is the only way to grow it and refuses while it is exported, `extend` puts its bytes aside
        // then, `detach` moves the buffer's owner but not its allocation, and `reattach` does not shrink an exported
        // one.
        unsafe { fill_view(view, &slf, pointer, length, false, flags)? };
        (state.exported, state.delivered) = (true, false);
        Ok(())
    }

    /// # Safety
    /// Called by the interpreter for a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, _view: *mut Py_buffer) {
        let mut state = lock(&self.state);
        state.exported = false;
        // Not before: asyncio releases the space between the read and its delivery.
        if std::mem::take(&mut state.delivered)
            && let Some(frames) = &mut state.frames
        {
            frames.consume(true);
        }
    }
}
