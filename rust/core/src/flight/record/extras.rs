//! What only some flights have: progress, a cancel, a task, a late answer, a label.

use std::sync::Arc;

use crate::flight::record::Time;
use crate::sync::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Mutex, OnceLock, Ordering};
use crate::wire::text::Text;

/// What came after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Late {
    /// A result.
    Result = 1,
    /// An error.
    Error,
}

/// How the handler of a cancelled request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cleanup {
    /// It is still at work.
    StillRunning = 1,
    /// It stopped at the cancel.
    Stopped,
    /// It returned a result all the same.
    FinishedAnyway,
    /// It raised something else.
    Raised,
}

impl Cleanup {
    /// The name used in records.
    pub const fn name(self) -> &'static str {
        match self {
            Cleanup::StillRunning => "still_running",
            Cleanup::Stopped => "stopped",
            Cleanup::FinishedAnyway => "finished_anyway",
            Cleanup::Raised => "raised",
        }
    }
}

/// The span of a request, in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace: u128,
    /// The span above; 0 for none.
    pub parent: u64,
    /// The span.
    pub span: u64,
}

impl Trace {
    /// The context of what is below the span, as W3C writes it.
    pub fn context(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// One accepted progress notification.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressUpdate {
    /// How far the work is; grows with every update.
    pub progress: f64,
    /// How far it will go, if the peer knows.
    pub total: Option<f64>,
    /// The peer's message.
    pub message: Option<Arc<Text>>,
}

/// Fields of flights with progress, a cancel, a task, a late answer or a label.
#[derive(Debug)]
pub struct Extras {
    pub(super) first_progress: AtomicU64,
    pub(super) last_progress: AtomicU64,
    pub(super) last: Mutex<Option<ProgressUpdate>>,
    pub(super) accepted: AtomicU32,
    pub(super) dropped: AtomicU32,
    pub(super) cancelled_by: AtomicU8,
    pub(super) cancel_requested: AtomicU64,
    pub(super) cancel_written: AtomicBool,
    /// The reason of a cancel that came before anything else, and of one that came after it.
    pub(super) first_reason: Option<Box<Text>>,
    pub(super) reason: OnceLock<Box<Text>>,
    pub(super) task: OnceLock<Box<str>>,
    pub(super) label: OnceLock<Box<Text>>,
    pub(super) principal: OnceLock<Box<Text>>,
    /// Behind a pointer, since few have one.
    pub(super) trace: OnceLock<Box<Trace>>,
    pub(super) late: AtomicU8,
    pub(super) late_at: AtomicU64,
    pub(super) late_progress: AtomicU32,
    pub(super) cleanup: AtomicU8,
    pub(super) cleanup_ended: AtomicU64,
    pub(super) exit_code: AtomicI32,
}

pub const NO_EXIT_CODE: i32 = i32::MIN;

impl Extras {
    pub fn new() -> Self {
        Self {
            first_progress: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            last: Mutex::new(None),
            accepted: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            cancelled_by: AtomicU8::new(0),
            cancel_requested: AtomicU64::new(0),
            cancel_written: AtomicBool::new(false),
            first_reason: None,
            reason: OnceLock::new(),
            task: OnceLock::new(),
            label: OnceLock::new(),
            principal: OnceLock::new(),
            trace: OnceLock::new(),
            late: AtomicU8::new(0),
            late_at: AtomicU64::new(0),
            late_progress: AtomicU32::new(0),
            cleanup: AtomicU8::new(0),
            cleanup_ended: AtomicU64::new(0),
            exit_code: AtomicI32::new(NO_EXIT_CODE),
        }
    }

    pub fn accept(&self, last: &mut Option<ProgressUpdate>, update: &ProgressUpdate, now: Time) {
        *last = Some(update.clone());
        if self.accepted.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first_progress.store(now, Ordering::Relaxed);
        }
        self.last_progress.store(now, Ordering::Relaxed);
    }
}
