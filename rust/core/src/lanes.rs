//! Requests that wait for a connection that takes no more, or has enough of one sender's, in a lane for each sender.
//!
//! The lanes take turns, one request a turn, so that whoever sends much waits for itself and for nobody else's
//! sake. What waits can be taken back without a trace.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::budget::{Account, Charge};
use crate::limits::{Exceeded, Limits};
use crate::record::Time;
use crate::window::Window;

/// See the module's text.
pub struct Lanes {
    by_sender: HashMap<u64, Lane, RandomState>,
    /// Whose turn it is next; a ticket that its lane does not hold any more is void.
    turns: VecDeque<(u64, u64)>,
    tickets: u64,
    /// Who sent a request that waits.
    sender_of: HashMap<u64, u64, RandomState>,
    bytes: usize,
    /// What the other end was sent and is not seen to have taken up.
    window: Window,
    /// Whether nobody who waits may send more now, because of the window.
    held: bool,
}

/// Requests of one sender, whose numbers rise.
#[derive(Default)]
struct Lane {
    ticket: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

struct Waiting {
    number: u64,
    frame: Vec<u8>,
    /// What it costs who sent it.
    _charge: Option<Charge>,
}

/// Bytes that a request costs that waits, beside its frame.
const COST: usize = 256;

impl Default for Lanes {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

impl Lanes {
    /// No lanes yet, before a connection that `limits` hold for.
    pub fn new(limits: &Limits) -> Self {
        Self {
            by_sender: HashMap::default(),
            turns: VecDeque::new(),
            tickets: 0,
            sender_of: HashMap::default(),
            bytes: 0,
            window: Window::new(limits.max_upstream_window),
            held: false,
        }
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes held beside those.
    pub fn overhead(&self) -> usize {
        self.window.bytes()
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_sender.is_empty()
    }

    /// Bytes that wait for nothing but [`Lanes::take`]; 0 where what waits is held back.
    pub fn ready(&self) -> usize {
        if self.held { 0 } else { self.bytes }
    }

    fn is_held(&self) -> bool {
        self.held && !self.is_empty()
    }

    /// Whether a request that somebody asks for has to wait, though the connection takes more: nothing overtakes what
    /// waits, unless that is held back itself.
    pub fn holds(&mut self, sender: u64, now: Time) -> bool {
        self.window.note_asked(sender, now);
        if !self.is_empty() && (!self.held || self.by_sender.contains_key(&sender)) {
            return true;
        }
        !self.window.admits(sender)
    }

    /// Counts a request that is sent at once; gives its number in the window.
    pub fn send(&mut self, sender: u64, now: Time) -> u64 {
        self.window.send(sender, now)
    }

    /// Takes a sent request back that has not left; `sent` is its number in the window, 0 for none.
    pub fn take_back(&mut self, sent: u64) {
        if sent > 0 {
            self.window.take_back(sent);
            self.held = false;
        }
    }

    /// Takes note that nobody waits for a request any more that has left.
    pub fn give_up(&mut self, sent: u64, now: Time) {
        if sent > 0 {
            self.window.give_up(sent, now);
        }
    }

    /// Takes note that the other end took a request up.
    #[inline]
    pub fn take_up(&mut self, sent: u64, now: Time) {
        if sent > 0 {
            self.window.take_up(sent, now);
            self.held = false;
        }
    }

    /// When [`Lanes::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.is_held() { self.window.next_deadline() } else { None }
    }

    /// Lets more be sent to an end that was silent for long.
    pub fn expire(&mut self, now: Time) {
        if self.is_held() && self.window.expire(now) {
            self.held = false;
        }
    }

    /// Whether one more request of `size` bytes may wait in a lane, of `room` bytes that are left for all lanes.
    pub fn room(&self, lane: u64, size: usize, room: usize, limits: &Limits) -> Result<(), Exceeded> {
        let (requests, bytes) =
            self.by_sender.get(&lane).map_or((0, 0), |lane| (lane.waiting.len(), lane.bytes));
        if requests >= limits.max_queued_requests {
            return Err(Exceeded { limit: "max_queued_requests", value: limits.max_queued_requests });
        }
        if bytes + size > limits.max_queued_bytes {
            return Err(Exceeded { limit: "max_queued_bytes", value: limits.max_queued_bytes });
        }
        // Nobody takes more than half of what the others leave.
        if bytes + size > room {
            return Err(Exceeded { limit: "max_output_bytes", value: limits.max_output_bytes });
        }
        Ok(())
    }

    /// Lets request `number` wait in a lane; `payer` is charged for it.
    pub fn push(&mut self, lane: u64, number: u64, frame: Vec<u8>, payer: Option<&Arc<Account>>) {
        let key = lane;
        let lane = self.by_sender.entry(key).or_insert_with(|| {
            self.tickets += 1;
            self.turns.push_back((key, self.tickets));
            // Whoever waits for nobody may be let through.
            self.held = false;
            Lane { ticket: self.tickets, ..Lane::default() }
        });
        lane.bytes += frame.len();
        self.bytes += frame.len();
        let charge = payer.map(|payer| Charge::new(payer, frame.len() + COST));
        lane.waiting.push_back(Waiting { number, frame, _charge: charge });
        self.sender_of.insert(number, key);
    }

    /// Takes request `number` back; false where it does not wait.
    pub fn retract(&mut self, number: u64) -> bool {
        let Some(key) = self.sender_of.remove(&number) else { return false };
        let Some(lane) = self.by_sender.get_mut(&key) else { return false };
        let Ok(at) = lane.waiting.binary_search_by_key(&number, |waiting| waiting.number) else {
            return false;
        };
        let size = lane.waiting.remove(at).map_or(0, |waiting| waiting.frame.len());
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

    /// Moves requests to `out` until it holds `most` bytes, at least one if any may leave; their numbers go to `taken`.
    /// Gives the number in the window of the first one, which those of the others follow.
    pub fn take(&mut self, out: &mut Vec<u8>, taken: &mut Vec<u64>, most: usize, now: Time) -> u64 {
        let mut first = 0;
        let mut passed_over = Vec::new();
        self.window.catch_up();
        self.held = true;
        while let Some((key, ticket)) = self.turns.pop_front() {
            let Some(lane) = self.by_sender.get_mut(&key).filter(|lane| lane.ticket == ticket) else {
                continue;
            };
            if !self.window.admits(key) {
                passed_over.push((key, ticket));
                continue;
            }
            let Some(Waiting { number, frame, .. }) = lane.waiting.pop_front() else { continue };
            lane.bytes -= frame.len();
            self.bytes -= frame.len();
            self.sender_of.remove(&number);
            if lane.waiting.is_empty() {
                self.by_sender.remove(&key);
            } else {
                self.turns.push_back((key, ticket));
            }
            let sent = self.window.send(key, now);
            first = if first == 0 { sent } else { first };
            out.extend_from_slice(&frame);
            taken.push(number);
            if out.len() >= most {
                self.held = false;
                break;
            }
        }
        for turn in passed_over.into_iter().rev() {
            self.turns.push_front(turn);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(lanes: &mut Lanes, most: usize) -> String {
        let mut out = Vec::new();
        lanes.take(&mut out, &mut Vec::new(), most, 0);
        String::from_utf8(out).unwrap()
    }

    fn push(lanes: &mut Lanes, lane: u64, number: u64) {
        lanes.push(lane, number, format!("{number};").into_bytes(), None);
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
        assert_eq!(lanes.room(1, 4, 100, &limits), Ok(()));
        assert_eq!(lanes.room(1, 5, 100, &limits), exceeded("max_queued_bytes", 6));
        push(&mut lanes, 1, 2);
        assert_eq!(lanes.room(1, 0, 100, &limits), exceeded("max_queued_requests", 2));
        assert_eq!(lanes.room(2, 6, 100, &limits), Ok(()), "another sender's lane is its own");
        lanes.retract(2);
        assert_eq!(lanes.room(1, 4, 100, &limits), Ok(()));
    }
}
