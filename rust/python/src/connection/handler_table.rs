//! Handlers by method, and method names as Python strings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::PyString;
use turnout_core::sync::lock;

/// Most methods without a handler whose names are remembered.
const FEW: usize = 32;

/// An async handler of a method, started without asking Python.
pub struct Handler {
    pub function: Py<PyAny>,
    /// Whether a cancel does not stop it.
    pub declines: bool,
}

impl Handler {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { function: self.function.clone_ref(py), declines: self.declines }
    }
}

/// A method that the peer asked for, found by the core's own copy of its name.
struct Method {
    known_as: Arc<str>,
    name: Py<PyString>,
    handler: Option<Handler>,
}

/// The handlers of one connection, and the methods requested so far.
#[derive(Default)]
pub struct HandlerTable {
    handlers: Mutex<HashMap<String, Handler>>,
    seen: Mutex<Vec<Method>>,
}

impl HandlerTable {
    /// Sets the handlers, each with whether a cancel stops it, replacing the earlier ones.
    pub fn set_handlers(&self, handlers: HashMap<String, (Py<PyAny>, bool)>) {
        let handlers = handlers.into_iter().map(|(method, (function, interruptible))| {
            (method, Handler { function, declines: !interruptible })
        });
        let handlers = handlers.collect();
        let before = std::mem::replace(&mut *lock(&self.handlers), handlers);
        let seen = std::mem::take(&mut *lock(&self.seen));
        drop((before, seen));
    }

    /// The handler that runs without asking Python, where the method of this name, as `name` gave it, has one.
    pub fn handler(&self, py: Python<'_>, name: &Py<PyString>) -> Option<Handler> {
        let seen = lock(&self.seen);
        let method = seen.iter().find(|known| known.name.is(name))?;
        method.handler.as_ref().map(|handler| handler.clone_ref(py))
    }

    /// The method as a Python string.
    pub fn name(&self, py: Python<'_>, method: &Arc<str>) -> Py<PyString> {
        let mut seen = lock(&self.seen);
        if let Some(known) = seen.iter().find(|known| Arc::ptr_eq(&known.known_as, method)) {
            return known.name.clone_ref(py);
        }
        let handler = lock(&self.handlers).get(&**method).map(|handler| handler.clone_ref(py));
        let name = PyString::new(py, method).unbind();
        if handler.is_some() || seen.len() < FEW {
            let known = Method { known_as: Arc::clone(method), name: name.clone_ref(py), handler };
            seen.push(known);
        }
        name
    }
}
