//! The protocol's rules of a connection, as Python says them.

use std::collections::HashSet;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use turnout_core::rules::{Choices, Era, Role, TaskSupport};

use super::Connection;
use crate::values::json;
use crate::values::options::revision_of;

impl Connection {
    pub(super) fn apply_rules(
        &self,
        revision: &str,
        role: &str,
        request_meta: Option<&Bound<'_, PyDict>>,
        opened: Option<bool>,
        era: &str,
    ) -> PyResult<()> {
        let revision = revision_of(revision)?;
        let era = match era {
            "host" => Era::Host,
            "open" => Era::Open,
            "settled" => Era::Settled,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "{era:?} is not how an era is told: host, open or settled"
                )));
            }
        };
        let role = match role {
            "either" => Role::Either,
            "client" => Role::Client,
            "server" => Role::Server,
            _ => return Err(PyValueError::new_err(format!("{role:?} is no role: either, client or server"))),
        };
        let mut members = Vec::new();
        for (key, value) in request_meta.into_iter().flatten() {
            let key: String = key.extract()?;
            members.push((key, json::dumps(&value)?.as_bytes().to_vec()));
        }
        let mut core = self.driver.core();
        core.rules.revision = revision;
        core.rules.role = role;
        core.rules.initialized = opened.unwrap_or(core.rules.initialized);
        core.rules.era = era;
        core.set_request_meta(members);
        Ok(())
    }

    pub(super) fn apply_task_support(
        &self,
        ours: Option<&HashSet<String>>,
        theirs: Option<&HashSet<String>>,
    ) {
        let of = |declared: Option<&HashSet<String>>| {
            declared.map_or(TaskSupport::ALL, |methods| TaskSupport {
                tools: methods.contains("tools/call"),
                sampling: methods.contains("sampling/createMessage"),
                elicitation: methods.contains("elicitation/create"),
                cancel: methods.contains("tasks/cancel"),
            })
        };
        let mut core = self.driver.core();
        core.rules.our_tasks = of(ours);
        core.rules.their_tasks = of(theirs);
    }

    pub(super) fn apply_choices(&self, choices: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let mut chosen: Choices = self.driver.core().rules.choices;
        for (name, value) in choices.into_iter().flatten() {
            let value: bool = value.extract()?;
            match name.extract::<String>()?.as_str() {
                "listen_end_sends_cancelled" => chosen.listen_end_sends_cancelled = value,
                "task_progress" => chosen.task_progress = Some(value),
                "disconnect_cancels" => chosen.disconnect_cancels = value,
                "progress_must_increase" => chosen.progress_must_increase = value,
                "cancel_discover" => chosen.cancel_discover = value,
                "cancel_late_tasks" => chosen.cancel_late_tasks = value,
                "answer_ping" => chosen.answer_ping = value,
                other => return Err(PyTypeError::new_err(format!("there is no choice named {other:?}"))),
            }
        }
        self.driver.core().rules.choices = chosen;
        Ok(())
    }
}
