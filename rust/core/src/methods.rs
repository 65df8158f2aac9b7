//! The names of methods, one copy of each for all records of a connection.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::{Limits, clip};

/// See the module's text. A peer can make up names: no more than `max_methods` are kept.
#[derive(Default)]
pub(crate) struct Methods {
    known: HashMap<Box<str>, Arc<str>, RandomState>,
    /// The last one asked for: peers say the same thing many times.
    last: Arc<str>,
}

impl Methods {
    /// The one copy of `name`, which `max_text_bytes` cuts short.
    pub(crate) fn named(&mut self, name: &str, limits: &Limits) -> &Arc<str> {
        if *self.last != *name {
            self.last = self.known.get(name).cloned().unwrap_or_else(|| {
                let interned: Arc<str> = clip(name, limits.max_text_bytes).into();
                if self.known.len() < limits.max_methods {
                    self.known.insert(interned.as_ref().into(), Arc::clone(&interned));
                }
                interned
            });
        }
        &self.last
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.known.keys().map(|name| 2 * name.len()).sum()
    }
}
