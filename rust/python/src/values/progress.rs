//! Progress updates, as Python sees them.

use pyo3::prelude::*;
use turnout_core::flight::record;

use crate::values::number::Number;
use crate::values::text::Text;

#[doc = text!("Progress")]
#[pyclass(frozen, eq, module = "turnout", get_all)]
#[derive(PartialEq)]
#[allow(clippy::struct_field_names)] // the protocol's names
pub struct Progress {
    #[doc = text!("Progress.progress")]
    progress: f64,
    #[doc = text!("Progress.total")]
    total: Option<f64>,
    #[doc = text!("Progress.message")]
    message: Option<Text>,
}

impl From<&record::ProgressUpdate> for Progress {
    fn from(update: &record::ProgressUpdate) -> Self {
        let message = update.message.clone().map(Text);
        Self { progress: update.progress, total: update.total, message }
    }
}

#[pymethods]
impl Progress {
    #[new]
    #[pyo3(signature = (progress, total = None, message = None))]
    fn new(progress: Number, total: Option<Number>, message: Option<Text>) -> Self {
        Self { progress: progress.0, total: total.map(|total| total.0), message }
    }

    fn __getnewargs__(&self) -> (f64, Option<f64>, Option<&Text>) {
        (self.progress, self.total, self.message.as_ref())
    }

    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("progress", "total", "message");

    fn __repr__(&self) -> String {
        let total = self.total.map_or(String::new(), |total| format!(", total={total}"));
        let message =
            self.message.as_ref().map_or(String::new(), |message| format!(", message={:?}", message.shown()));
        format!("Progress({}{total}{message})", self.progress)
    }
}
