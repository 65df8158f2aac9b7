//! What Python wants to hear of: observed notifications, late messages, methods whose params it rewrites.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use turnout_core::sync::lock;

/// Notifications of the core itself, which it shows only where they are asked for.
const BUILT_IN: [&str; 2] = ["notifications/cancelled", "notifications/progress"];

/// The interests of one connection.
pub struct Interests {
    /// Methods of notifications that are handed over; None for all.
    observed: Mutex<Option<HashSet<String>>>,
    /// Whether late answers and late progress are handed over.
    late: AtomicBool,
    /// Methods whose outgoing params the host rewrites.
    rewritten: Mutex<HashSet<String>>,
}

impl Default for Interests {
    fn default() -> Self {
        Self { observed: Mutex::default(), late: AtomicBool::new(true), rewritten: Mutex::default() }
    }
}

impl Interests {
    /// Sets which notifications are handed over; returns whether those that the core acts on are among them.
    pub fn observe(&self, methods: Option<&Bound<'_, PyAny>>, late: bool) -> PyResult<bool> {
        let methods = methods.map(any_of).transpose()?;
        let built_in =
            methods.as_ref().is_some_and(|methods| BUILT_IN.iter().any(|name| methods.contains(*name)));
        self.late.store(late, Ordering::Relaxed);
        *lock(&self.observed) = methods;
        Ok(built_in)
    }

    pub fn observes(&self, method: &str) -> bool {
        lock(&self.observed)
            .as_ref()
            .is_none_or(|observed| observed.contains("*") || observed.contains(method))
    }

    pub fn wants_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    pub fn rewrite(&self, methods: HashSet<String>) {
        *lock(&self.rewritten) = methods;
    }

    pub fn rewrites(&self, method: &str) -> bool {
        lock(&self.rewritten).contains(method)
    }
}

/// The methods in any iterable of strings; a string by itself is taken for a mistake.
fn any_of(methods: &Bound<'_, PyAny>) -> PyResult<HashSet<String>> {
    if methods.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(
            "observe takes several methods: observe([\"notifications/message\"])",
        ));
    }
    methods.try_iter()?.map(|method| method?.extract()).collect()
}
