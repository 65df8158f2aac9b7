//! Requests that wait for a connection that takes no more, in a lane for each one who sent them.
//!
//! The lanes take turns, one request a turn, so that whoever sends much waits for itself and for nobody else's
//! sake. What waits can be taken back without a trace.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::{Exceeded, Limits};

/// See the module's text.
#[derive(Default)]
pub struct Lanes {
    by_sender: HashMap<u64, Lane, RandomState>,
    /// Whose turn it is next; a ticket that its lane does not hold any more is void.
    turns: VecDeque<(u64, u64)>,
    tickets: u64,
    /// Who sent a request that waits.
    sender_of: HashMap<u64, u64, RandomState>,
    bytes: usize,
}

/// Requests of one sender: numbers, which rise, and frames.
#[derive(Default)]
struct Lane {
    ticket: u64,
    waiting: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
}

impl Lanes {
    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_sender.is_empty()
    }

    /// Whether one more request of `size` bytes may wait in a lane.
    pub fn room(&self, lane: u64, size: usize, limits: &Limits) -> Result<(), Exceeded> {
        let (requests, bytes) =
            self.by_sender.get(&lane).map_or((0, 0), |lane| (lane.waiting.len(), lane.bytes));
        if requests >= limits.max_queued_requests {
            return Err(Exceeded { limit: "max_queued_requests", value: limits.max_queued_requests });
        }
        if bytes + size > limits.max_queued_bytes {
            return Err(Exceeded { limit: "max_queued_bytes", value: limits.max_queued_bytes });
        }
        Ok(())
    }

    /// Lets request `number` wait in a lane.
    pub fn push(&mut self, lane: u64, number: u64, frame: Vec<u8>) {
        let key = lane;
        let lane = self.by_sender.entry(key).or_insert_with(|| {
            self.tickets += 1;
            self.turns.push_back((key, self.tickets));
            Lane { ticket: self.tickets, ..Lane::default() }
        });
        lane.bytes += frame.len();
        self.bytes += frame.len();
        lane.waiting.push_back((number, frame));
        self.sender_of.insert(number, key);
    }

    /// Takes request `number` back; false where it does not wait.
    pub fn retract(&mut self, number: u64) -> bool {
        let Some(key) = self.sender_of.remove(&number) else { return false };
        let Some(lane) = self.by_sender.get_mut(&key) else { return false };
        let Ok(at) = lane.waiting.binary_search_by_key(&number, |(number, _)| *number) else { return false };
        let size = lane.waiting.remove(at).map_or(0, |(_, frame)| frame.len());
        lane.bytes -= size;
        self.bytes -= size;
        if lane.waiting.is_empty() {
            self.by_sender.remove(&key);
            // Void tickets must not pile up while nothing leaves.
            if self.turns.len() > 2 * self.by_sender.len() + 16 {
                let lanes = &self.by_sender;
                self.turns.retain(|(key, ticket)| lanes.get(key).is_some_and(|lane| lane.ticket == *ticket));
            }
        }
        true
    }

    /// Moves requests to `out` until it holds `most` bytes, at least one; their numbers go to `taken`.
    pub fn take(&mut self, out: &mut Vec<u8>, taken: &mut Vec<u64>, most: usize) {
        while let Some((key, ticket)) = self.turns.pop_front() {
            let Some(lane) = self.by_sender.get_mut(&key).filter(|lane| lane.ticket == ticket) else {
                continue;
            };
            let Some((number, frame)) = lane.waiting.pop_front() else { continue };
            lane.bytes -= frame.len();
            self.bytes -= frame.len();
            self.sender_of.remove(&number);
            if lane.waiting.is_empty() {
                self.by_sender.remove(&key);
            } else {
                self.turns.push_back((key, ticket));
            }
            out.extend_from_slice(&frame);
            taken.push(number);
            if out.len() >= most {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(lanes: &mut Lanes, most: usize) -> String {
        let mut out = Vec::new();
        lanes.take(&mut out, &mut Vec::new(), most);
        String::from_utf8(out).unwrap()
    }

    fn push(lanes: &mut Lanes, lane: u64, number: u64) {
        lanes.push(lane, number, format!("{number};").into_bytes());
    }

    #[test]
    fn section_13_lanes_take_turns_whoever_sent_more() {
        let mut lanes = Lanes::default();
        for number in 1..=5 {
            push(&mut lanes, 7, number);
        }
        push(&mut lanes, 8, 6);
        push(&mut lanes, 9, 7);
        push(&mut lanes, 8, 8);
        assert_eq!(take(&mut lanes, 1), "1;");
        // A turn goes on where the last one ended.
        assert_eq!(take(&mut lanes, 9), "6;7;2;8;3;");
        push(&mut lanes, 9, 9);
        assert_eq!(take(&mut lanes, 100), "4;9;5;");
        assert!(lanes.is_empty() && lanes.bytes() == 0);
    }

    #[test]
    fn race_03_what_waits_is_taken_back_and_nothing_is_left_of_it() {
        let mut lanes = Lanes::default();
        for number in 1..=6 {
            push(&mut lanes, number % 2, number);
        }
        assert!(lanes.retract(3) && !lanes.retract(3) && !lanes.retract(9));
        assert_eq!(lanes.bytes(), 10);
        assert_eq!(take(&mut lanes, 3), "1;2;");
        assert!(!lanes.retract(1), "it has left");
        assert!(lanes.retract(4) && lanes.retract(6));
        assert_eq!(take(&mut lanes, 100), "5;");
        assert!(lanes.is_empty() && lanes.sender_of.is_empty() && lanes.turns.is_empty());
    }

    #[test]
    fn a_sender_that_cancels_and_asks_again_gains_no_turn_and_leaves_no_trace() {
        let mut lanes = Lanes::default();
        push(&mut lanes, 1, 1);
        for number in 2..10_000 {
            push(&mut lanes, 2, number);
            assert!(lanes.retract(number));
        }
        assert!(lanes.turns.len() < 64, "{}", lanes.turns.len());
        for number in 10_000..10_003 {
            push(&mut lanes, 2, number);
        }
        push(&mut lanes, 1, 10_003);
        assert_eq!(take(&mut lanes, 100), "1;10000;10003;10001;10002;");
    }

    #[test]
    fn a_lane_is_bounded_in_requests_and_in_bytes() {
        let limits = Limits { max_queued_requests: 2, max_queued_bytes: 6, ..Limits::default() };
        let mut lanes = Lanes::default();
        let exceeded = |limit, value| Err(Exceeded { limit, value });
        push(&mut lanes, 1, 1);
        assert_eq!(lanes.room(1, 4, &limits), Ok(()));
        assert_eq!(lanes.room(1, 5, &limits), exceeded("max_queued_bytes", 6));
        push(&mut lanes, 1, 2);
        assert_eq!(lanes.room(1, 0, &limits), exceeded("max_queued_requests", 2));
        assert_eq!(lanes.room(2, 6, &limits), Ok(()), "another sender's lane is its own");
        lanes.retract(2);
        assert_eq!(lanes.room(1, 4, &limits), Ok(()));
    }
}
