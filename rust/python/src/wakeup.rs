//! Waking what sleeps: callbacks of tasks and of others, each in its own context, at once or on a turn of its loop.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use crate::home::Home;
use crate::raised;

/// A callback, the context it runs in, what it is told and the loop it sleeps in.
pub struct Wakeup {
    callback: Py<PyAny>,
    context: Option<Py<PyAny>>,
    argument: Py<PyAny>,
    event_loop: Option<Py<PyAny>>,
}

/// Where wake-ups run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// At once: we are in a callback of the loop, and no task is running.
    Here,
    /// On the loop's next turn.
    Soon,
}

/// Whether `callback` is what asyncio's own tasks leave with what they wait for.
///
/// It asks its argument for a result and goes on. Asking a future of asyncio's costs next to nothing there, asking
/// anything else a twentieth of a round trip: so it is told of a future that is done.
fn is_of_a_task(callback: &Bound<'_, PyAny>) -> bool {
    /// The function behind those callbacks, once one was seen.
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    if !callback.is_exact_instance_of::<PyCFunction>() {
        return false;
    }
    // SAFETY: `callback` is alive and was just found to be a function of C's.
    let function = unsafe { ffi::PyCFunction_GetFunction(callback.as_ptr()) };
    let function = function.map_or(0, |function| function as usize);
    let known = KNOWN.load(Ordering::Relaxed);
    if known == 0 && callback.getattr("__name__").is_ok_and(|name| name.eq("task_wakeup").unwrap_or(false)) {
        KNOWN.store(function, Ordering::Relaxed);
        return true;
    }
    known != 0 && function == known
}

impl Wakeup {
    pub const fn new(
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
        argument: Py<PyAny>,
        event_loop: Option<Py<PyAny>>,
    ) -> Self {
        Self { callback, context, argument, event_loop }
    }

    /// Whether it is told of `argument`.
    pub fn is_for<T>(&self, argument: &Bound<'_, T>) -> bool {
        self.argument.is(argument)
    }

    pub fn calls(&self, callback: &Bound<'_, PyAny>) -> bool {
        self.callback.bind(callback.py()).eq(callback).unwrap_or(false)
    }

    /// Whether it sleeps in the loop of `home`.
    pub fn sleeps_in(&self, home: &Home) -> bool {
        self.event_loop.as_ref().is_some_and(|event_loop| event_loop.is(&home.event_loop))
    }

    /// Runs the callback here, whatever loop it belongs to; `done` is a future of that loop. One that raises is the
    /// loop's to report.
    pub fn run(self, py: Python<'_>, done: Option<&Py<PyAny>>) {
        let Err(error) = self.call(py, done) else { return };
        // A task lets errors of its own out only to end the loop. This one did not even begin: another task is
        // running, from which somebody fed us.
        if error.is_instance_of::<PyRuntimeError>(py) && is_of_a_task(self.callback.bind(py)) {
            self.hand_over(py);
        } else {
            self.report(py, error);
        }
    }

    /// Hands the callback to its loop, which may run in another thread.
    pub fn hand_over(self, py: Python<'_>) {
        let handed = match &self.event_loop {
            None => self.call(py, None),
            Some(event_loop) => self.schedule(event_loop.bind(py)),
        };
        if let Err(error) = handed {
            self.report(py, error);
        }
    }

    fn call(&self, py: Python<'_>, done: Option<&Py<PyAny>>) -> PyResult<()> {
        let callback = self.callback.bind(py);
        let argument = done.filter(|_| is_of_a_task(callback)).unwrap_or(&self.argument);
        let _entered = self.context.as_ref().map(|context| Entered::new(context.bind(py))).transpose()?;
        callback.call1((argument,)).map(drop)
    }

    fn schedule(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let keywords = PyDict::new(event_loop.py());
        if let Some(context) = &self.context {
            keywords.set_item(intern!(event_loop.py(), "context"), context)?;
        }
        let name = intern!(event_loop.py(), "call_soon_threadsafe");
        event_loop.call_method(name, (&self.callback, &self.argument), Some(&keywords)).map(drop)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callback)?;
        visit.call(&self.context)?;
        visit.call(&self.argument)?;
        visit.call(&self.event_loop)
    }

    /// Tells the loop of what the callback raised.
    pub fn report(&self, py: Python<'_>, error: PyErr) {
        let event_loop = self.event_loop.as_ref().map(|event_loop| event_loop.bind(py));
        raised::report(py, event_loop, error, Some(self.callback.bind(py)));
    }
}

/// A context while something runs in it.
struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'a, 'py> Entered<'a, 'py> {
    fn new(context: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: the interpreter is held and `context` is alive; anything but a context is an error.
        match unsafe { ffi::PyContext_Enter(context.as_ptr()) } {
            0 => Ok(Self(context)),
            _ => Err(PyErr::fetch(context.py())),
        }
    }
}

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: as above; what was entered here last is left first.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), Some(self.0));
        }
    }
}

/// Those who sleep on one thing: mostly nobody, or one.
#[derive(Default)]
pub enum Asleep {
    #[default]
    Nobody,
    One(Wakeup),
    Several(Vec<Wakeup>),
}

impl Asleep {
    pub fn push(&mut self, wakeup: Wakeup) {
        *self = match std::mem::take(self) {
            Self::Nobody => Self::One(wakeup),
            Self::One(first) => Self::Several(vec![first, wakeup]),
            Self::Several(mut wakeups) => {
                wakeups.push(wakeup);
                Self::Several(wakeups)
            }
        };
    }

    pub fn extend(&mut self, more: impl IntoIterator<Item = Wakeup>) {
        for wakeup in more {
            self.push(wakeup);
        }
    }

    /// Takes out those that `is_meant`.
    pub fn take(&mut self, is_meant: impl Fn(&Wakeup) -> bool) -> Self {
        let mut taken = Self::default();
        for wakeup in std::mem::take(self) {
            (if is_meant(&wakeup) { &mut taken } else { &mut *self }).push(wakeup);
        }
        taken
    }

    pub const fn len(&self) -> usize {
        match self {
            Self::Nobody => 0,
            Self::One(_) => 1,
            Self::Several(wakeups) => wakeups.len(),
        }
    }
}

impl IntoIterator for Asleep {
    type Item = Wakeup;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Wakeup>, std::vec::IntoIter<Wakeup>>;

    fn into_iter(self) -> Self::IntoIter {
        let (first, others) = match self {
            Self::Nobody => (None, Vec::new()),
            Self::One(wakeup) => (Some(wakeup), Vec::new()),
            Self::Several(wakeups) => (None, wakeups),
        };
        first.into_iter().chain(others)
    }
}
