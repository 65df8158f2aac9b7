//! What is in flight, for people who look: rows with handles, and the end of what a handle names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use foldhash::fast::RandomState;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use turnout_core::flight::record::Direction;
use turnout_core::flight::state::CancelledBy;
use turnout_core::handle::{KEY_BYTES, Keys, Kind, Process};
use turnout_core::relay::Fault;
use turnout_core::sync::lock;

use crate::asyncio::callback::Run;
use crate::asyncio::raised;
use crate::connection::Connection;
use crate::driver::Driver;
use crate::values::record::Record;
use crate::values::text::Text;

/// The connections that handles were given of.
#[derive(Default)]
struct Seen {
    slots: HashMap<u32, Weak<Driver>, RandomState>,
    by_address: HashMap<usize, u32, RandomState>,
    next: u32,
    /// How many there were when those that are gone were last forgotten.
    kept: usize,
}

impl Seen {
    fn slot_of(&mut self, driver: &Arc<Driver>) -> u32 {
        let address = Arc::as_ptr(driver).addr();
        let known = self.by_address.get(&address).copied();
        let is_this = |slot: &u32| self.slots.get(slot).is_some_and(|held| held.strong_count() > 0);
        if let Some(slot) = known.filter(is_this) {
            return slot;
        }
        if self.slots.len() > 2 * self.kept + 64 {
            self.slots.retain(|_, held| held.strong_count() > 0);
            let slots = &self.slots;
            self.by_address.retain(|_, slot| slots.contains_key(slot));
            self.kept = self.slots.len();
        }
        self.next += 1;
        self.slots.insert(self.next, Arc::downgrade(driver));
        self.by_address.insert(address, self.next);
        self.next
    }
}

#[doc = text!("LiveFlights")]
#[pyclass(frozen, module = "turnout._native")]
pub struct LiveFlights {
    keys: Keys,
    seen: Mutex<Seen>,
}

#[pymethods]
impl LiveFlights {
    #[new]
    fn new(key: &[u8]) -> PyResult<Self> {
        let key: &[u8; KEY_BYTES] =
            key.try_into().map_err(|_| PyValueError::new_err("a key has 32 bytes"))?;
        Ok(Self { keys: Keys::new(Process::default(), 0, key), seen: Mutex::default() })
    }

    #[doc = text!("LiveFlights.of")]
    fn of(&self, connection: &Bound<'_, Connection>) -> Vec<(Record, u32)> {
        let core = connection.get().driver().core();
        core.live().map(|(record, bytes)| (Record::new(Arc::clone(record)), bytes)).collect()
    }

    #[doc = text!("LiveFlights.handle")]
    fn handle(&self, connection: &Bound<'_, Connection>, record: &Bound<'_, Record>) -> String {
        let slot = lock(&self.seen).slot_of(connection.get().driver());
        let record = record.get().inner();
        let mut content = [0; 9];
        content[0] = u8::from(record.direction == Direction::Inbound);
        content[1..].copy_from_slice(&record.number.to_be_bytes());
        self.keys.seal(Kind::Admin, slot, 0, b"", &content)
    }

    #[doc = text!("LiveFlights.cancel")]
    #[pyo3(signature = (handle, reason = None))]
    fn cancel(&self, py: Python<'_>, handle: &str, reason: Option<Text>) -> PyResult<bool> {
        let unknown = || PyKeyError::new_err("this names no request that was in flight here");
        let (named, content) = self.keys.unseal(handle, Kind::Admin, b"").map_err(|_| unknown())?;
        let content: [u8; 9] = content.try_into().map_err(|_| unknown())?;
        let number = content[1..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let held = lock(&self.seen).slots.get(&named.slot).and_then(Weak::upgrade);
        let Some(driver) = held else { return Ok(false) };
        let reason = reason.as_ref().map(|text| &*text.0);
        if content[0] == 0 {
            return driver.cancel(py, number, CancelledBy::Operator, reason);
        }
        driver.stop(py, number, reason)
    }
}

impl Driver {
    /// Stops a request of the peer's, since an operator says so; false where it is over.
    fn stop(&self, py: Python<'_>, number: u64, reason: Option<&[u8]>) -> PyResult<bool> {
        self.check_process()?;
        let now = self.now();
        raised::finish(|| {
            if let Some((relay, key)) = self.membership().get() {
                let Some(routed) = relay.stop(key, number, reason, now) else { return Ok(false) };
                self.finish_route(py, routed);
                return Ok(true);
            }
            let stopped = self.run_core(py, Run::NextTick, |core, events| {
                let error = |_: &_| (Fault::Cancelled.data(true, "", ""), Fault::Cancelled.message());
                core.stop(now, number, reason, events, error)
            });
            let Some(answered) = stopped else { return Ok(false) };
            self.notify_finished(py, &mut Vec::from_iter(answered.finished));
            self.schedule_flush(py)?;
            Ok(true)
        })
    }
}
