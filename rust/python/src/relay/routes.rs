//! Routes as Python declares them.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use turnout_core::relay::{self as core, Goal, Route};

use crate::values::text::Text;

#[doc = text!("Routes")]
#[pyclass(frozen, module = "turnout._native")]
pub struct Routes {
    pub(crate) inner: Arc<core::Routes>,
}

#[doc = text!("NameFilter")]
#[pyclass(frozen, module = "turnout._native")]
pub struct NameFilter(Arc<core::NameFilter>);

#[pymethods]
impl NameFilter {
    #[new]
    #[pyo3(signature = (allow, deny))]
    fn new(allow: Option<Vec<Text>>, deny: Vec<Text>) -> Self {
        let text = |pattern: Text| pattern.0;
        let allow = allow.map(|allow| allow.into_iter().map(text));
        Self(Arc::new(core::NameFilter::new(allow, deny.into_iter().map(text))))
    }

    #[doc = text!("NameFilter.allows")]
    fn allows(&self, name: Text) -> bool {
        self.0.allows(&name.0)
    }
}

/// One route as Python gives it: method, prefix of the name, whether it is stripped, goal, filter.
type PyRoute<'py> = (String, String, bool, PyGoal, Option<Bound<'py, NameFilter>>);

/// A goal as Python gives it: the position of an upstream, "host" or "nowhere".
struct PyGoal(Goal);

impl<'py> FromPyObject<'_, 'py> for PyGoal {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(position) = value.extract::<usize>() {
            return Ok(Self(Goal::Upstream(position)));
        }
        match value.extract::<String>()?.as_str() {
            "host" => Ok(Self(Goal::Host)),
            "nowhere" => Ok(Self(Goal::Nowhere)),
            other => Err(PyValueError::new_err(format!("{other:?} is no goal: a position, host or nowhere"))),
        }
    }
}

#[pymethods]
impl Routes {
    /// Routes (method, prefix of the name, whether it is stripped, goal, filter); `fallback` is the goal of all other requests,
    /// `are_everybodys` says whether every client of the relay has these.
    #[new]
    fn new(routes: Vec<PyRoute<'_>>, fallback: PyGoal, are_everybodys: bool) -> PyResult<Self> {
        let routes = routes.into_iter().map(|(method, prefix, strip_prefix, goal, filter)| Route {
            method: method.into(),
            prefix: prefix.into(),
            strip_prefix,
            goal: goal.0,
            filter: filter.map(|filter| Arc::clone(&filter.get().0)),
        });
        let routes = core::Routes::new(routes, fallback.0)
            .map_err(|conflict| PyValueError::new_err(conflict.to_string()))?;
        let routes = if are_everybodys { routes } else { routes.of_some() };
        Ok(Self { inner: Arc::new(routes) })
    }
}
