//! The peer's requests by id, indexed lazily.
//!
//! Most requests end soon and are never looked up by id. So a request is indexed at the first lookup of any id,
//! or when many newer requests came after it: short requests do not touch the index, which is far larger than a
//! processor's caches where 100,000 are held.

use crate::connection::event::Host;
use crate::connection::{Connection, Inbound};
use crate::flight::sparse_map::SparseMap;
use crate::flight::state::FlightState;

/// Most requests that are not indexed yet.
const MAX_DEFERRED: usize = 512;

/// The id of the request in `slot`; empty where there is none.
fn wire_id<R>(inbound: &SparseMap<Inbound<R>>, slot: usize) -> &[u8] {
    inbound.get(slot).map_or(b"", |entry| entry.record.wire_id())
}

impl<H: Host> Connection<H> {
    /// The slots of requests with this id.
    pub(crate) fn find_by_id<'a>(&'a mut self, id: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        while let Some(number) = self.deferred.pop_front() {
            self.index(number);
        }
        self.id_index.find(self.id_index.hash(id), id, |slot| wire_id(&self.inbound, slot))
    }

    /// Defers indexing of a new request; indexes the oldest deferred one if it is still in flight.
    pub(crate) fn defer(&mut self, number: u64) {
        while let Some(oldest) = self.deferred.front().copied() {
            if self.arrivals.find(oldest).is_some() {
                if self.deferred.len() < MAX_DEFERRED {
                    break;
                }
                self.index(oldest);
            }
            self.deferred.pop_front();
        }
        self.deferred.push_back(number);
    }

    /// Indexes a request, unless it is over, or goes on under the id of its task.
    fn index(&mut self, number: u64) {
        if let Some((slot, state)) = self.arrivals.find(number)
            && state != FlightState::Task
            && let Some(entry) = self.inbound.get_mut(slot)
        {
            entry.is_indexed = true;
            let hash = self.id_index.hash(entry.record.wire_id());
            self.id_index.insert(hash, slot, |slot| wire_id(&self.inbound, slot));
        }
    }

    /// Deferred requests that are not over.
    pub(super) fn deferred_in_flight(&self) -> usize {
        let has_id =
            |number: &&u64| self.arrivals.find(**number).is_some_and(|(_, state)| state != FlightState::Task);
        self.deferred.iter().filter(has_id).count()
    }

    /// Frees the id of the request in `slot`; for a while its end is remembered.
    pub(crate) fn forget_id(&mut self, slot: usize) {
        if let Some(entry) = self.inbound.get_mut(slot) {
            let hash = self.id_index.note_ended(entry.record.wire_id());
            if std::mem::take(&mut entry.is_indexed) {
                self.id_index.remove(hash, slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connection::Answer;
    use crate::connection::event::{Batch, Event};
    use crate::flight::ledger::Ledger;
    use crate::flight::record::{PeerInfo, Record};
    use crate::limits::Limits;
    use crate::rules::{Revision, Role, Rules};
    use crate::wire::span::Span;

    struct Nobody;

    impl Host for Nobody {
        type Call = ();
        type Request = ();
    }

    /// A connection whose peer asks under any id.
    struct Server(Connection<Nobody>);

    impl Server {
        fn new() -> Self {
            let peer = PeerInfo::new("peer", "memory");
            let rules = Rules { role: Role::Server, revision: Revision::V2025_11_25, ..Rules::default() };
            let limits = Limits { max_inbound: 1 << 20, ..Limits::default() };
            let mut connection = Connection::new(peer, limits, rules, Arc::new(Ledger::new(10)));
            connection.allow_duplicate_ids = true;
            Self(connection)
        }

        fn receive(&mut self, frame: &str) -> Batch<Nobody> {
            let mut batch = Batch::default();
            self.0.receive(1, frame.as_bytes(), Span::new(0, frame.len()), &mut batch);
            batch
        }

        fn ask(&mut self, id: u64) -> Arc<Record> {
            self.ask_with(id, "{}")
        }

        fn ask_with(&mut self, id: u64, params: &str) -> Arc<Record> {
            let frame = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
            match self.receive(&frame).events.pop() {
                Some(Event::Request { record, .. }) => record,
                _ => panic!("a request"),
            }
        }

        fn answer(&mut self, record: &Record) {
            assert!(self.0.answer(2, record.number, Answer::Result(b"{}")).written);
        }

        /// The number of the request that the peer's cancel of `id` ended.
        fn cancelled(&mut self, id: u64) -> Option<u64> {
            let method = "notifications/cancelled";
            let frame = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"requestId":{id}}}}}"#);
            match self.receive(&frame).events.pop() {
                Some(Event::Cancelled { record, .. }) => Some(record.number),
                _ => None,
            }
        }
    }

    #[test]
    fn can_11_a_cancel_finds_its_request_whether_it_is_young_or_stays() {
        for held in [1, MAX_DEFERRED, MAX_DEFERRED + 1, 4 * MAX_DEFERRED] {
            let mut server = Server::new();
            let numbers: Vec<u64> = (0..held as u64).map(|id| server.ask(id).number).collect();
            assert_eq!(server.0.id_index.len(), held.saturating_sub(MAX_DEFERRED), "those that stay");
            assert_eq!(server.0.entries()[2], ("ids", held));
            let found: Vec<u64> = (0..held as u64).filter_map(|id| server.cancelled(id)).collect();
            assert_eq!(found, numbers);
            assert_eq!(server.0.entries()[..3], [("outbound", 0), ("inbound", 0), ("ids", 0)]);
        }
    }

    #[test]
    fn requests_that_come_and_go_do_not_touch_the_index() {
        let mut server = Server::new();
        let held = server.ask(0);
        for id in 1..=3 * MAX_DEFERRED as u64 {
            let record = server.ask(id);
            server.answer(&record);
            assert!(server.0.deferred.len() <= MAX_DEFERRED);
        }
        assert_eq!(server.0.id_index.len(), 1, "the one that stays");
        assert_eq!(server.cancelled(0), Some(held.number));
        assert_eq!(server.0.id_index.len(), 0);
        assert_eq!(server.0.deferred.len(), 0);
    }

    #[test]
    fn race_09_two_requests_under_one_id_are_found_wherever_they_wait() {
        let mut server = Server::new();
        let old = server.ask(7);
        for id in 100..100 + MAX_DEFERRED as u64 {
            server.ask(id);
        }
        let young = server.ask(7);
        assert_eq!(server.cancelled(7), None, "nobody knows which one is meant");
        server.answer(&old);
        assert_eq!(server.cancelled(7), Some(young.number));
    }

    #[test]
    fn a_task_is_not_found_by_the_id_of_the_request_that_made_it() {
        for asked_before in [false, true] {
            let mut server = Server::new();
            let meta = r#"{"task":{},"_meta":{"progressToken":1}}"#;
            let made = server.ask_with(7, meta);
            if asked_before {
                assert_eq!(server.cancelled(8), None);
            }
            let task = br#"{"task":{"taskId":"t","status":"working"}}"#;
            assert!(server.0.answer(2, made.number, Answer::Result(task)).written);
            assert_eq!(server.0.inbound.len(), 1, "its token lives on");
            assert_eq!(server.cancelled(7), None);
            let again = server.ask(7);
            assert_eq!(server.cancelled(7), Some(again.number));
            assert!(server.0.finish_task(3, made.number));
            assert_eq!((server.0.id_index.len(), server.0.inbound.len()), (0, 0));
        }
    }
}
