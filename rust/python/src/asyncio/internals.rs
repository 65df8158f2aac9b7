//! Everything that the runtime leans on and that Python or asyncio could change: private names, methods that asyncio
//! is assumed to ask for, C symbols. No other file spells such a name or calls such a symbol
//! (`tests/ledger/test_internals.py`).
//!
//! # What asyncio asks of `Waiter`, our awaitable
//!
//! `tests/api/test_awaitable_protocol.py` records what asyncio touches, and finds each name in this table and on
//! the class.
//!
//! | name | who asks, and why | where it is missing |
//! |---|---|---|
//! | `_asyncio_future_blocking` | a task, to tell a future from a bare `yield`; sets it to False when it waits; `isfuture` asks the class | the task raises `RuntimeError`: "Task got bad yield" |
//! | `get_loop` | a task and `ensure_future`, to refuse a future of another loop | asyncio reads `_loop` instead, and raises `AttributeError` |
//! | `add_done_callback` | a task, `wait`, `gather`, `shield`, `TaskGroup`; called with `context=` | `AttributeError` in the awaiting task |
//! | `remove_done_callback` | `wait`, `wait_for`, `shield`, `run_until_complete`, after the end | `AttributeError` after the end |
//! | `cancel` | a task that is cancelled while it waits; `gather`, `wait_for` | the cancel is lost, and the task waits on |
//! | `cancelled` | `gather`, `shield`, `wrap_future`, before they ask for the exception | `AttributeError` in their callback: the outer future never ends |
//! | `done` | `wait`, `wait_for`, `gather`, `shield` | `AttributeError` |
//! | `exception` | `gather`, `shield`, `wrap_future` | `AttributeError` in their callback: the outer future never ends |
//! | `result` | a task's wake-up, whose value is dropped; `gather`, `wait_for`, `shield` | `AttributeError` out of the wake-up: the task never goes on |
//! | `_cancel_message` | `gather` with `return_exceptions`, for a child that was cancelled | `AttributeError` in its callback |
//! | `_make_cancelled_error` | `gather`, for a child that was cancelled | `AttributeError` in its callback: `gather` never ends |
//!
//! # What is asked of `HandlerCoroutine`
//!
//! A task steps it by `__next__` or `send`, and throws a cancel into it by `throw`. What shows a task reads the other
//! names, and shows less where one is missing.
//!
//! | name | who asks, and why | where it is missing |
//! |---|---|---|
//! | `send` | `PyIter_Send` of a task, where `__next__` is not taken | the task cannot be made: `TypeError` |
//! | `throw` | a task that is cancelled | `AttributeError`: the handler is not stopped |
//! | `close` | the abstract class; a loop that is closed | `TypeError` at the registration |
//! | `cr_await` | debuggers, `asyncio`'s call graph of 3.14 | the handler's own frames are not shown |
//! | `cr_frame` | `Task.get_stack` | `AttributeError` in `Task.print_stack` |
//! | `cr_running` | `asyncio.coroutines`, for a `repr` | the `repr` leaves "running" out |
//! | `cr_code` | `asyncio.coroutines`, for a `repr` | the `repr` of a task raises |
//!
//! # What we ask of loops, tasks, futures and handles
//!
//! | name | of what, and why | where it is missing or different |
//! |---|---|---|
//! | `get_running_loop` | asyncio; the loop of a caller | an import error at the first use |
//! | `call_soon` | a loop; flushes and scheduled callbacks, once an iteration, with `context=` | `AttributeError` in `attach` |
//! | `call_soon_threadsafe` | a loop; the same from other threads, and callbacks of waiters of other loops, with `context=` | `AttributeError` in `attach` |
//! | `call_later` | a loop; the one timer of a connection, with `context=` | `AttributeError` in `attach` |
//! | `copy_context` | `contextvars`; the context that connected, for those three | an import error in `attach` |
//! | `Future` | asyncio; one future that is done, given to wake-ups of tasks, for which `result()` costs nothing | `AttributeError` in `attach` |
//! | `set_result` | that future | `AttributeError` in `attach` |
//! | `Task` | asyncio; handlers run in tasks of its class, not of the loop's task factory | `AttributeError` in `attach` |
//! | `eager_start` | `Task`, from 3.12 on: the first step runs at once | left out before 3.12: the first step comes in the next iteration |
//! | `task_wakeup` | the name of the C function that a task registers with what it awaits; known, it is given the done future | never matched: each wake-up costs a twentieth of a round trip more, and a task that could not start is reported instead of posted |
//! | `cancel` | a task, with a message; a handle of `call_later` | `AttributeError`, reported to the loop |
//! | `Coroutine` | `collections.abc`; `HandlerCoroutine` is registered as one | `Task` refuses it: `TypeError` |
//! | `__code__` | a handler, for `cr_code` | None is shown |
//! | `register_at_fork` | `os`; counts forks | forks are not counted, as on systems without them |
//! | `after_in_child` | `register_at_fork` | `TypeError` at import |
//!
//! A loop releases the read buffer between the read and its delivery (asyncio), or after it (uvloop): `input` takes
//! both.
//!
//! # C symbols
//!
//! | name | why not the safe call | where it is missing or different |
//! |---|---|---|
//! | `PyErr_SetObject` | sets a value as that of `StopIteration` without an exception object, which the interpreter then never makes | a build error; an interpreter that always makes one only costs time |
//! | `PyIter_Send` | steps a coroutine without an exception at its end | a build error before 3.10 |
//! | `PyCFunction_GetFunction` | tells a task's wake-up from other callbacks by one pointer | a build error |
//! | `PyContext_Enter`, `PyContext_Exit` | run a callback in its context without a call to Python | a build error |
//! | `PyObject_GC_UnTrack` | takes an object without `__traverse__` off the collector | a build error; untracking is a hint and changes nothing else |
//! | `PyBuffer_FillInfo` | exports our memory by the buffer protocol | a build error |

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyCFunction, PyCode, PyDict, PyString, PyTuple};
use pyo3::{IntoPyObjectExt, ffi, intern};

pub use pyo3::ffi::Py_buffer;

// ---- loops and handles ----

/// The event loop that runs in this thread.
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0()
}

/// The methods of a loop that are called often.
pub struct LoopMethods {
    pub soon: Py<PyAny>,
    pub soon_threadsafe: Py<PyAny>,
    pub later: Py<PyAny>,
}

impl LoopMethods {
    pub fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            soon: event_loop.getattr("call_soon")?.unbind(),
            soon_threadsafe: event_loop.getattr("call_soon_threadsafe")?.unbind(),
            later: event_loop.getattr("call_later")?.unbind(),
        })
    }
}

/// Keyword arguments for callbacks of a loop that run in the context of now.
pub fn callback_options(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let context = py.import("contextvars")?.call_method0("copy_context")?;
    [("context", context)].into_py_dict(py)
}

/// Has a loop, which may run in another thread, call `function(argument)` in `context`.
pub fn post(
    event_loop: &Bound<'_, PyAny>,
    function: &Py<PyAny>,
    argument: &Py<PyAny>,
    context: Option<&Py<PyAny>>,
) -> PyResult<()> {
    let py = event_loop.py();
    let keywords = PyDict::new(py);
    if let Some(context) = context {
        keywords.set_item(intern!(py, "context"), context)?;
    }
    let name = intern!(py, "call_soon_threadsafe");
    event_loop.call_method(name, (function, argument), Some(&keywords)).map(drop)
}

/// Cancels a handle of `call_later`.
pub fn cancel_handle(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    handle.call_method0(intern!(handle.py(), "cancel")).map(drop)
}

// ---- futures and tasks ----

/// A future of a loop that is done.
pub fn done_future<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let options = [("loop", event_loop)].into_py_dict(py)?;
    let done = py.import("asyncio")?.getattr("Future")?.call((), Some(&options))?;
    done.call_method1("set_result", (py.None(),))?;
    Ok(done)
}

/// asyncio's task class, and whether it starts eagerly.
fn task_class(py: Python<'_>) -> PyResult<&'static (Py<PyAny>, bool)> {
    static TASK: PyOnceLock<(Py<PyAny>, bool)> = PyOnceLock::new();
    TASK.get_or_try_init(py, || {
        let class = py.import("asyncio")?.getattr("Task")?;
        Ok((class.unbind(), py.version_info() >= (3, 12)))
    })
}

/// Lets tasks drive objects of `class`.
pub fn register_coroutine(class: &Bound<'_, PyAny>) -> PyResult<()> {
    let coroutine = class.py().import("collections.abc")?.getattr("Coroutine")?;
    coroutine.call_method1("register", (class,)).map(drop)
}

/// Keyword arguments for the tasks of a loop.
pub fn task_options<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = event_loop.py();
    let (_, eager) = task_class(py)?;
    let options = PyDict::new(py);
    options.set_item("loop", event_loop)?;
    if *eager {
        options.set_item("eager_start", true)?;
    }
    Ok(options)
}

/// Starts a task for a coroutine, by [`task_options`].
pub fn start_task<'py>(
    coroutine: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coroutine.py();
    let (class, _) = task_class(py)?;
    // More informative, and cheaper, than the name that asyncio would generate.
    options.set_item(intern!(py, "name"), name)?;
    class.bind(py).call((coroutine,), Some(options))
}

/// Cancels a task: here, or in the thread of `elsewhere`, its loop.
pub fn cancel_task<'py>(
    task: &Bound<'py, PyAny>,
    message: impl IntoPyObject<'py>,
    elsewhere: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let py = task.py();
    let message = message.into_bound_py_any(py)?;
    match elsewhere {
        Some(event_loop) => {
            let cancel = task.getattr(intern!(py, "cancel"))?;
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (cancel, message)).map(drop)
        }
        None => task.call_method1(intern!(py, "cancel"), (message,)).map(drop),
    }
}

/// Whether `callback` is the wake-up function of asyncio's own tasks.
///
/// It calls `result()` of its argument. For a future of asyncio's that is nearly free, for any other object it is
/// a twentieth of a round trip: so its argument is a future that is done.
pub fn is_task_wakeup(callback: &Bound<'_, PyAny>) -> bool {
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

// ---- coroutines ----

/// What one step of a coroutine came to.
pub enum Stepped<'py> {
    Waits(Bound<'py, PyAny>),
    Returns(Bound<'py, PyAny>),
}

/// Steps a coroutine.
pub fn send<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Stepped<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: `coroutine` and None are valid objects while they are borrowed here, and `result` receives a
    // new reference, which is taken over below exactly where the interpreter says that it was set.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Stepped::Waits(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_RETURN => Ok(Stepped::Returns(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// Steps a coroutine by throwing `error` into it.
pub fn throw<'py>(coroutine: &Bound<'py, PyAny>, error: Bound<'py, PyAny>) -> PyResult<Stepped<'py>> {
    let py = coroutine.py();
    match coroutine.call_method1(intern!(py, "throw"), (error,)) {
        Ok(awaited) => Ok(Stepped::Waits(awaited)),
        Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
            Ok(Stepped::Returns(stop.value(py).getattr(intern!(py, "value"))?))
        }
        Err(error) => Err(error),
    }
}

/// Closes a coroutine.
pub fn close(coroutine: &Bound<'_, PyAny>) -> PyResult<()> {
    coroutine.call_method0(intern!(coroutine.py(), "close")).map(drop)
}

/// The frame in which a coroutine waits.
pub fn frame_of<'py>(coroutine: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    coroutine.getattr("cr_frame").ok()
}

/// The code of a coroutine, or else of the function it is made by; None where neither is Python's.
pub fn code_of<'py>(
    coroutine: Option<&Bound<'py, PyAny>>,
    function: &Bound<'py, PyAny>,
) -> Option<Bound<'py, PyAny>> {
    let code = |object: &Bound<'py, PyAny>, name: &str| {
        object.getattr(name).ok().filter(PyAnyMethods::is_instance_of::<PyCode>)
    };
    coroutine.and_then(|coroutine| code(coroutine, "cr_code")).or_else(|| code(function, "__code__"))
}

/// Ends an iteration with `value`: the interpreter then finds it without an exception object around it.
///
/// The caller gives no next item, and no error of its own. Measured: a `StopIteration` made and normalised for
/// each result was a twentieth of a round trip.
pub fn stop_with(value: Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() {
        return Ok(());
    }
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        // These the interpreter would take for the exception's arguments, or for the exception.
        return Err(PyStopIteration::new_err((value.unbind(),)));
    }
    // SAFETY: we hold the interpreter, and both objects are alive; the callee takes references of its own.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
    Ok(())
}

// ---- contexts ----

/// A context while something runs in it.
pub struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'a, 'py> Entered<'a, 'py> {
    pub fn new(context: &'a Bound<'py, PyAny>) -> PyResult<Self> {
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

// ---- the process ----

/// Has `function` called in every child of a fork, where the system has any.
pub fn after_fork_in_child<'py>(py: Python<'py>, function: impl IntoPyObject<'py>) -> PyResult<()> {
    let Ok(register) = py.import("os")?.getattr("register_at_fork") else { return Ok(()) };
    let options = PyDict::new(py);
    options.set_item("after_in_child", function)?;
    register.call((), Some(&options)).map(drop)
}

// ---- memory ----

/// Takes an object off the garbage collector.
///
/// # Safety
/// The object is of a class without `__traverse__`, and nobody else has it yet.
pub unsafe fn untrack<T>(object: &Py<T>) {
    // SAFETY: the object is alive, of a class that the collector knows; one that is not tracked is left alone, and
    // taken down like any other.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
}

/// Fills a view of `length` bytes at `pointer`, which `owner` keeps.
///
/// # Safety
/// `view` is one that the interpreter gave to `__getbuffer__` of `owner`. The bytes are initialised, and stay where
/// they are until the view is released.
pub unsafe fn fill_view(
    view: *mut Py_buffer,
    owner: &Bound<'_, PyAny>,
    pointer: *mut u8,
    length: usize,
    readonly: bool,
    flags: c_int,
) -> PyResult<()> {
    let length = length.cast_signed();
    // SAFETY: as the caller promises; the view takes a reference to `owner`.
    let filled = unsafe {
        ffi::PyBuffer_FillInfo(view, owner.as_ptr(), pointer.cast::<c_void>(), length, readonly.into(), flags)
    };
    if filled == 0 { Ok(()) } else { Err(PyErr::fetch(owner.py())) }
}
