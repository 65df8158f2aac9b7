//! Flushing: from the core's output to the transport, once for any number of frames.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::connection::output::recycle;
use turnout_core::connection::streams::AddressedOutput;
use turnout_core::corking::Flushed;

use crate::driver::Driver;
use crate::driver::memory;
use crate::driver::transport::{LARGE, Outlet, PostWriter, StreamWriter};

impl Driver {
    /// Schedules a flush in the next iteration of the loop; from any thread.
    pub fn schedule_flush(&self, py: Python<'_>) -> PyResult<()> {
        if !self.corking.arm() {
            return Ok(());
        }
        let Some(binding) = self.scheduler.binding() else { return Ok(()) };
        let scheduled = binding.soon(py, &binding.callbacks.flush);
        if scheduled.is_err() {
            self.corking.disarm();
        }
        scheduled?;
        if self.corking.is_uncorked() && binding.is_here() {
            self.write_out(py)?;
        }
        Ok(())
    }

    /// Writes the output to the transport; returns what was written, and whether more is left.
    fn write_out(&self, py: Python<'_>) -> PyResult<(Flushed, bool)> {
        self.check_process()?;
        let now = self.now();
        match self.transport.outlet() {
            None => {}
            Some(Outlet::Streams(streams)) => {
                let flushed = streams.upgrade().map_or(Flushed::Nothing, |it| self.write_addressed(py, &it));
                return Ok((flushed, false));
            }
            Some(Outlet::Posts(posts)) => {
                return Ok(posts.upgrade().map_or((Flushed::Nothing, false), |it| self.post_all(py, it)));
            }
        }
        let Some(writer) = self.transport.writer(py) else { return Ok((Flushed::Nothing, false)) };
        let (bytes, left) = {
            let mut core = self.core();
            if core.needs_unread(now) {
                drop(core);
                let unread = writer.unread(py);
                core = self.core();
                core.note_unread(now, unread);
            }
            let none = core.is_congested() || core.output_ready() == 0;
            let bytes = if none { Vec::new() } else { core.drain_output(now) };
            self.settle_account(&mut core);
            (bytes, !core.is_congested() && core.output_ready() > 0)
        };
        let (flushed, size) = (Flushed::of(&bytes), bytes.len());
        if size == 0 {
            return Ok((flushed, left));
        }
        if let Err(error) = writer.write(py, bytes) {
            self.break_off(py, error);
            return Ok((Flushed::Nothing, false));
        }
        // What the transport did not take it holds for us.
        if size >= LARGE {
            let mut core = self.core();
            if core.is_congested() {
                core.note_transport(size);
            }
        }
        Ok((flushed, left))
    }

    /// Writes the output to the streams that it is for.
    fn write_addressed(&self, py: Python<'_>, streams: &Arc<dyn StreamWriter>) -> Flushed {
        let now = self.now();
        let output = {
            let mut core = self.core();
            let output =
                if core.has_addressed() { core.drain_addressed(now) } else { AddressedOutput::default() };
            self.settle_account(&mut core);
            output
        };
        let flushed = Flushed::of(&output.bytes);
        streams.write(py, output);
        flushed
    }

    /// Posts the output, each message by itself; also says whether more is left.
    fn post_all(&self, py: Python<'_>, writer: Arc<dyn PostWriter>) -> (Flushed, bool) {
        let now = self.now();
        let (posts, left) = {
            let mut core = self.core();
            if !core.has_addressed() {
                return (Flushed::Nothing, false);
            }
            let posts = core.drain_posts(now);
            self.settle_account(&mut core);
            (posts, core.output_ready() > 0)
        };
        let flushed = Flushed::of(&posts.bytes);
        writer.post(py, posts);
        (flushed, left)
    }

    /// Ends the connection, since its transport may have lost what it was given: nothing can follow that.
    fn break_off(&self, py: Python<'_>, error: PyErr) {
        self.transport.leave();
        let value = error.clone_ref(py).into_value(py).into_bound(py).into_any();
        self.scheduler.report(py, error, None);
        if let Some(connection) = self.face.get(py) {
            let ended = self.face.class().write_failed(&connection, value);
            self.scheduler.report_failed(py, ended, None);
        }
    }

    /// Writes what waits to the transport.
    pub fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.corking.disarm();
        let (flushed, left) = self.write_out(py)?;
        self.corking.note_flush(flushed);
        if left {
            self.schedule_flush(py)?;
        }
        let next = self.core().next_deadline();
        memory::settle();
        self.set_timer(py, next, self.now())
    }

    /// What is to be written now, for whoever writes it by hand.
    pub fn data_to_send<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let now = self.now();
        let taken = self.core().drain_output(now);
        let bytes = PyBytes::new(py, &taken);
        recycle(taken);
        bytes
    }

    /// Notes that the transport takes more.
    pub fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        {
            let mut core = self.core();
            core.set_congested(false);
            core.note_transport(0);
        }
        self.schedule_flush(py)
    }

    /// Does something that sends frames, and flushes once at its end; from a callback of the loop.
    pub fn corked(&self, py: Python<'_>, act: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let ours = self.corking.arm();
        let done = act();
        let flushed = if ours { self.flush(py) } else { Ok(()) };
        done.and(flushed)
    }
}
