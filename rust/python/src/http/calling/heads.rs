//! What goes into the heads of requests: the path of the endpoint, and the fields that all of them have.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use turnout_core::sync::lock;

use crate::http::calling::post::{Headers, ParamHeaders, Post};

/// Most tools whose headers are kept; beyond them those of the last list are.
const MOST_TOOLS: usize = 10_000;

/// A tool, and which of its arguments are repeated.
pub type AnnotatedTool = (String, Vec<(Vec<String>, String)>);

/// The head of a request, but for what is of that request alone.
pub struct Heads(Mutex<State>);

struct State {
    target: Box<str>,
    headers: Headers,
    params: ParamHeaders,
    session: Option<Vec<u8>>,
    /// Counts the changes.
    generation: u64,
}

impl Heads {
    /// For a path with its query, and with those fields.
    pub fn new(target: &str, headers: Vec<(String, Vec<u8>)>) -> Self {
        Self(Mutex::new(State {
            target: target.into(),
            headers: boxed(headers),
            params: ParamHeaders::default(),
            session: None,
            generation: 0,
        }))
    }

    /// Gives the target and the fields of a request to `act`.
    pub fn with<T>(&self, post: &Post, act: impl FnOnce(&str, &[(&str, Cow<'_, [u8]>)]) -> T) -> T {
        let state = lock(&self.0);
        post.generation.store(state.generation, Ordering::Relaxed);
        let fields = post.fields(&state.headers, state.session.as_deref(), &state.params);
        act(&state.target, &fields)
    }

    /// Has requests made so from now on.
    pub fn set(&self, target: &str, headers: Vec<(String, Vec<u8>)>) {
        let mut state = lock(&self.0);
        state.target = target.into();
        state.headers = boxed(headers);
        state.generation += 1;
    }

    /// Takes note of which arguments of tools are repeated.
    pub fn set_params(&self, tools: Vec<AnnotatedTool>) {
        let mut state = lock(&self.0);
        if state.params.len() > MOST_TOOLS {
            state.params.clear();
        }
        for (tool, params) in tools {
            let params = params.into_iter().map(|(path, header)| {
                (path.into_iter().map(String::into_boxed_str).collect(), header.into_boxed_str())
            });
            state.params.insert(tool.into_boxed_str(), params.collect());
        }
    }

    /// Whether arguments of any tool are repeated.
    pub fn has_params(&self) -> bool {
        !lock(&self.0).params.is_empty()
    }

    /// Takes note of the session that was opened; None where the server has none.
    pub fn set_session(&self, session: Option<Vec<u8>>) {
        let mut state = lock(&self.0);
        state.session = session;
        state.generation += 1;
    }

    /// The id of the session.
    pub fn session(&self) -> Option<Vec<u8>> {
        lock(&self.0).session.clone()
    }

    /// How often it changed.
    pub fn generation(&self) -> u64 {
        lock(&self.0).generation
    }
}

fn boxed(headers: Vec<(String, Vec<u8>)>) -> Headers {
    headers.into_iter().map(|(name, value)| (name.into_boxed_str(), value.into_boxed_slice())).collect()
}
