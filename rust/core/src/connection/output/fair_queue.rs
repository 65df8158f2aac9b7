//! A fair queue of requests for a connection that is congested, or has enough of one sender: one queue for each
//! sender, served in rotation.
//!
//! The rotation takes one request from each sender, so a busy sender delays only itself. A waiting request can be
//! retracted without a trace.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::connection::output::window::Window;
use crate::flight::record::Time;
use crate::limits::{Exceeded, Limits};
use crate::memory::{Account, Charge};

/// Waiting requests, by sender.
pub struct FairQueue {
    by_sender: HashMap<u64, SenderQueue, RandomState>,
    /// Rotation order as (sender, ticket); entries whose ticket no longer matches the sender's queue are stale.
    rotation: VecDeque<(u64, u64)>,
    tickets: u64,
    /// The sender of each waiting request.
    sender_of: HashMap<u64, u64, RandomState>,
    bytes: usize,
    /// Requests that the peer was sent and has not acknowledged.
    window: Window,
    /// Whether the window blocks every waiting sender.
    blocked: bool,
}

/// Requests of one sender, with rising numbers.
#[derive(Default)]
struct SenderQueue {
    ticket: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

struct Waiting {
    number: u64,
    frame: Vec<u8>,
    /// The charge to its sender.
    _charge: Option<Charge>,
}

/// Bytes charged for a waiting request in addition to its frame.
const COST: usize = 256;

impl Default for FairQueue {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

impl FairQueue {
    /// An empty queue of a connection with these limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            by_sender: HashMap::default(),
            rotation: VecDeque::new(),
            tickets: 0,
            sender_of: HashMap::default(),
            bytes: 0,
            window: Window::new(limits.max_upstream_window),
            blocked: false,
        }
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes held in addition.
    pub fn overhead(&self) -> usize {
        self.window.bytes()
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.sender_of.len()
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_sender.is_empty()
    }

    /// Bytes that the next drain can take; 0 where the window blocks them.
    pub fn ready(&self) -> usize {
        if self.blocked { 0 } else { self.bytes }
    }

    fn is_blocked(&self) -> bool {
        self.blocked && !self.is_empty()
    }

    /// Whether a new request must wait, although the connection is not congested: it does not overtake waiting
    /// ones, unless the window blocks those.
    pub fn must_wait(&mut self, sender: u64, now: Time) -> bool {
        self.window.note_sender(sender, now);
        if !self.is_empty() && (!self.blocked || self.by_sender.contains_key(&sender)) {
            return true;
        }
        !self.window.admits(sender)
    }

    /// Counts a request that is sent at once; returns its number in the window.
    pub fn send(&mut self, sender: u64, now: Time) -> u64 {
        self.window.send(sender, now)
    }

    /// Retracts a request that was written and not drained; `sent` is its number in the window, 0 for none.
    pub fn retract_sent(&mut self, sent: u64) {
        if sent > 0 {
            self.window.retract(sent);
            self.blocked = false;
        }
    }

    /// Notes that a request that was drained is abandoned.
    pub fn abandon(&mut self, sent: u64, now: Time) {
        if sent > 0 {
            self.window.abandon(sent, now);
        }
    }

    /// Notes that the peer acknowledged a request, by an answer or progress.
    #[inline]
    pub fn acknowledge(&mut self, sent: u64, now: Time) {
        if sent > 0 {
            self.window.acknowledge(sent, now);
            self.blocked = false;
        }
    }

    /// When [`FairQueue::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.is_blocked() { self.window.next_deadline() } else { None }
    }

    /// Opens the window to a peer that was silent for long.
    pub fn expire(&mut self, now: Time) {
        if self.is_blocked() && self.window.expire(now) {
            self.blocked = false;
        }
    }

    /// Checks the limits of one sender for one more request of `size` bytes; `free` bytes are left for all
    /// senders.
    pub fn admit(&self, sender: u64, size: usize, free: usize, limits: &Limits) -> Result<(), Exceeded> {
        let (requests, bytes) =
            self.by_sender.get(&sender).map_or((0, 0), |queue| (queue.waiting.len(), queue.bytes));
        if requests >= limits.max_queued_requests {
            return Err(Exceeded { limit: "max_queued_requests", value: limits.max_queued_requests });
        }
        if bytes + size > limits.max_queued_bytes {
            return Err(Exceeded { limit: "max_queued_bytes", value: limits.max_queued_bytes });
        }
        // A sender gets at most half of what the others leave.
        if bytes + size > free {
            return Err(Exceeded { limit: "max_output_bytes", value: limits.max_output_bytes });
        }
        Ok(())
    }

    /// Queues request `number` of a sender; `payer` is charged for it.
    pub fn push(&mut self, sender: u64, number: u64, frame: Vec<u8>, payer: Option<&Arc<Account>>) {
        let key = sender;
        let queue = self.by_sender.entry(key).or_insert_with(|| {
            self.tickets += 1;
            self.rotation.push_back((key, self.tickets));
            // A new sender may still have a share of the window.
            self.blocked = false;
            SenderQueue { ticket: self.tickets, ..SenderQueue::default() }
        });
        queue.bytes += frame.len();
        self.bytes += frame.len();
        let charge = payer.map(|payer| Charge::new(payer, frame.len() + COST));
        queue.waiting.push_back(Waiting { number, frame, _charge: charge });
        self.sender_of.insert(number, key);
    }

    /// Retracts request `number`; false where it does not wait.
    pub fn retract(&mut self, number: u64) -> bool {
        let Some(key) = self.sender_of.remove(&number) else { return false };
        let Some(queue) = self.by_sender.get_mut(&key) else { return false };
        let Ok(at) = queue.waiting.binary_search_by_key(&number, |waiting| waiting.number) else {
            return false;
        };
        let size = queue.waiting.remove(at).map_or(0, |waiting| waiting.frame.len());
        queue.bytes -= size;
        self.bytes -= size;
        if queue.waiting.is_empty() {
            self.by_sender.remove(&key);
            // Stale tickets must not pile up while nothing is drained.
            if self.rotation.len() > 2 * self.by_sender.len() + 16 {
                let queues = &self.by_sender;
                self.rotation
                    .retain(|(key, ticket)| queues.get(key).is_some_and(|queue| queue.ticket == *ticket));
            }
        }
        true
    }

    /// Moves requests to `out` until it holds `most` bytes, at least one if the window admits any; their numbers
    /// go to `drained`. Returns the window number of the first; the others follow it.
    pub fn drain(&mut self, out: &mut Vec<u8>, drained: &mut Vec<u64>, most: usize, now: Time) -> u64 {
        let mut first = 0;
        let mut skipped = Vec::new();
        self.window.apply_acknowledged();
        self.blocked = true;
        while let Some((key, ticket)) = self.rotation.pop_front() {
            let Some(queue) = self.by_sender.get_mut(&key).filter(|queue| queue.ticket == ticket) else {
                continue;
            };
            if !self.window.admits(key) {
                skipped.push((key, ticket));
                continue;
            }
            let Some(Waiting { number, frame, .. }) = queue.waiting.pop_front() else { continue };
            queue.bytes -= frame.len();
            self.bytes -= frame.len();
            self.sender_of.remove(&number);
            if queue.waiting.is_empty() {
                self.by_sender.remove(&key);
            } else {
                self.rotation.push_back((key, ticket));
            }
            let sent = self.window.send(key, now);
            first = if first == 0 { sent } else { first };
            out.extend_from_slice(&frame);
            drained.push(number);
            if out.len() >= most {
                self.blocked = false;
                break;
            }
        }
        for entry in skipped.into_iter().rev() {
            self.rotation.push_front(entry);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queues: &mut FairQueue, most: usize) -> String {
        let mut out = Vec::new();
        queues.drain(&mut out, &mut Vec::new(), most, 0);
        String::from_utf8(out).unwrap()
    }

    fn push(queues: &mut FairQueue, sender: u64, number: u64) {
        queues.push(sender, number, format!("{number};").into_bytes(), None);
    }

    #[test]
    fn section_13_senders_take_turns_whoever_sent_more() {
        let mut queues = FairQueue::default();
        for number in 1..=5 {
            push(&mut queues, 7, number);
        }
        push(&mut queues, 8, 6);
        push(&mut queues, 9, 7);
        push(&mut queues, 8, 8);
        assert_eq!(drain(&mut queues, 1), "1;");
        // The rotation continues where the last drain ended.
        assert_eq!(drain(&mut queues, 9), "6;7;2;8;3;");
        push(&mut queues, 9, 9);
        assert_eq!(drain(&mut queues, 100), "4;9;5;");
        assert!(queues.is_empty() && queues.bytes() == 0);
    }

    #[test]
    fn race_03_what_waits_is_taken_back_and_nothing_is_left_of_it() {
        let mut queues = FairQueue::default();
        for number in 1..=6 {
            push(&mut queues, number % 2, number);
        }
        assert!(queues.retract(3) && !queues.retract(3) && !queues.retract(9));
        assert_eq!(queues.bytes(), 10);
        assert_eq!(drain(&mut queues, 3), "1;2;");
        assert!(!queues.retract(1), "it has left");
        assert!(queues.retract(4) && queues.retract(6));
        assert_eq!(drain(&mut queues, 100), "5;");
        assert!(queues.is_empty() && queues.sender_of.is_empty() && queues.rotation.is_empty());
    }

    #[test]
    fn a_sender_that_cancels_and_asks_again_gains_no_turn_and_leaves_no_trace() {
        let mut queues = FairQueue::default();
        push(&mut queues, 1, 1);
        for number in 2..10_000 {
            push(&mut queues, 2, number);
            assert!(queues.retract(number));
        }
        assert!(queues.rotation.len() < 64, "{}", queues.rotation.len());
        for number in 10_000..10_003 {
            push(&mut queues, 2, number);
        }
        push(&mut queues, 1, 10_003);
        assert_eq!(drain(&mut queues, 100), "1;10000;10003;10001;10002;");
    }

    #[test]
    fn a_sender_queue_is_bounded_in_requests_and_in_bytes() {
        let limits = Limits { max_queued_requests: 2, max_queued_bytes: 6, ..Limits::default() };
        let mut queues = FairQueue::default();
        let exceeded = |limit, value| Err(Exceeded { limit, value });
        push(&mut queues, 1, 1);
        assert_eq!(queues.admit(1, 4, 100, &limits), Ok(()));
        assert_eq!(queues.admit(1, 5, 100, &limits), exceeded("max_queued_bytes", 6));
        push(&mut queues, 1, 2);
        assert_eq!(queues.admit(1, 0, 100, &limits), exceeded("max_queued_requests", 2));
        assert_eq!(queues.admit(2, 6, 100, &limits), Ok(()), "another sender's queue is its own");
        queues.retract(2);
        assert_eq!(queues.admit(1, 4, 100, &limits), Ok(()));
    }
}
