//! Interned method names: one copy of each for all records of a connection.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::flight::target::TargetMember;
use crate::limits::{Limits, clip};

/// Method names, each stored once. A peer can make up names: at most `max_methods` are kept.
#[derive(Default)]
pub(crate) struct Interner {
    known: HashMap<Box<str>, Arc<str>, RandomState>,
    /// The name interned last: peers repeat the same method.
    last: Arc<str>,
    /// What its params name.
    last_member: Option<TargetMember>,
}

impl Interner {
    /// The one copy of `name`, which `max_text_bytes` cuts short, and the member that says what its requests are about.
    pub(crate) fn intern(&mut self, name: &[u8], limits: &Limits) -> (&Arc<str>, Option<TargetMember>) {
        if self.last.as_bytes() != name {
            // Frames are checked to be UTF-8 before.
            self.replace_last(std::str::from_utf8(name).unwrap_or_default(), limits);
        }
        (&self.last, self.last_member)
    }

    fn replace_last(&mut self, name: &str, limits: &Limits) {
        self.last_member = TargetMember::of(name);
        self.last = self.known.get(name).cloned().unwrap_or_else(|| {
            let interned: Arc<str> = clip(name, limits.max_text_bytes).into();
            if self.known.len() < limits.max_methods {
                self.known.insert(interned.as_ref().into(), Arc::clone(&interned));
            }
            interned
        });
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.known.keys().map(|name| 2 * name.len()).sum()
    }
}
