//! A flow-control window: bounds the forwarded requests that one connection is sent ahead of its answers.
//!
//! An answer, or progress, acknowledges its request and all that were sent before it. Later requests may still
//! wait at the peer, where they cannot be reordered. So a sender whose requests pile up there is blocked here, in
//! a queue of its own ([`crate::connection::output::fair_queue`]):
//! - A sender gets at most half of what the others leave of the window, so that a new sender always has a share.
//! - While one sender is alone, the window is as large as its limit, until thousands are known to wait.
//! - So it is before a peer that has answered nothing yet.
//! - When a second sender asks, the window shrinks, and grows again only while answers come as soon as before.
//!   For a peer that works serially it stays small; for one that works concurrently, or answers at once, it grows
//!   until it blocks no sender.
//! - A peer that is silent for long is busy with all that it has: some more is sent, each time after twice that
//!   long.
//! - A cancelled request gets no answer, so it counts for a short time only.

mod sent;

use std::collections::VecDeque;

use crate::flight::record::Time;
use sent::{NO_SENDER, SentRuns};

const MILLISECOND: Time = 1_000_000;

/// The size that several senders begin with and never fall below.
const MIN_SIZE: usize = 12;
/// The share of each of several senders, however many they are.
const MIN_SHARE: usize = 4;
/// The least size for one sender alone.
const MIN_SIZE_ALONE: usize = 1024;
/// How long senders count as several after the sender changed.
const CONTENTION: Time = 60_000 * MILLISECOND;
/// How long a silent peer is waited for: at first, and at most.
const SILENCE: Time = 1_000 * MILLISECOND;
const MAX_SILENCE: Time = 32_000 * MILLISECOND;
/// How long an abandoned request counts.
const ABANDONED_FOR: Time = 50 * MILLISECOND;
/// A delay below the first shows an empty queue at the peer; one below the second may be noise of a busy machine.
const QUICK: Time = 2 * MILLISECOND;
const SLOW: Time = 4 * MILLISECOND;
/// A delay that shows, for a single sender, a long queue at the peer.
const SLOW_ALONE: Time = 250 * MILLISECOND;

/// The window of one connection.
pub(crate) struct Window {
    max: usize,
    size: usize,
    /// What was sent since the newest acknowledged request.
    sent: SentRuns,
    /// The newest acknowledged number, and the newest that was applied.
    acknowledged: u64,
    applied: u64,
    /// Abandoned requests, and until when they count.
    abandoned: VecDeque<(u64, Time)>,
    /// The last sender that asked, and until when senders count as several.
    last_sender: u64,
    contended_until: Time,
    /// Whether a sender was blocked since the size was set, and the first number sent after that.
    was_full: bool,
    resized_at: u64,
    /// The shortest delay so far: a long flood must not make it forgotten.
    shortest: Time,
    /// The time of the last acknowledgement, and how long the peer may be silent.
    last_heard: Time,
    silence: Time,
}

impl Window {
    /// An empty window; `most` is the most that may be sent ahead.
    pub fn new(most: usize) -> Self {
        Self {
            max: most,
            size: most,
            sent: SentRuns::new(),
            acknowledged: 0,
            applied: 0,
            abandoned: VecDeque::new(),
            last_sender: NO_SENDER,
            contended_until: 0,
            was_full: false,
            resized_at: 0,
            shortest: Time::MAX,
            last_heard: 0,
            silence: SILENCE,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.sent.bytes() + self.abandoned.capacity() * size_of::<(u64, Time)>()
    }

    /// Notes that a sender has a request.
    #[inline]
    pub fn note_sender(&mut self, sender: u64, now: Time) {
        self.apply_acknowledged();
        if !self.abandoned.is_empty() {
            self.drop_abandoned(now);
        }
        self.note_alone(now);
        if self.last_sender == sender {
            return;
        }
        if self.last_sender != NO_SENDER {
            if self.contended_until == 0 {
                self.size = self.size.min(MIN_SIZE);
            }
            self.contended_until = now.saturating_add(CONTENTION);
        }
        self.last_sender = sender;
    }

    /// Notes that one sender has been alone for long.
    fn note_alone(&mut self, now: Time) {
        if self.contended_until > 0 && self.contended_until <= now {
            self.contended_until = 0;
            self.size = self.max;
        }
    }

    /// Whether one more request of this sender may be sent.
    #[inline]
    pub fn admits(&mut self, sender: u64) -> bool {
        let (own, total) = (self.sent.count_of(sender), self.sent.total());
        // Half of what the others leave: as much as is unused. Of a peer that never answered nobody knows that it
        // does not work on all that it has.
        let size = if self.acknowledged == 0 { self.max } else { self.size };
        let has_share = own < MIN_SHARE || own < size.saturating_sub(total);
        let admits = has_share && own < self.max.saturating_sub(total);
        self.was_full |= !admits;
        admits
    }

    /// Counts a request that is sent; gives its number here, never 0.
    #[inline]
    pub fn send(&mut self, sender: u64, now: Time) -> u64 {
        self.sent.push(sender, now)
    }

    /// Removes a request that was not drained, or that was abandoned.
    pub fn retract(&mut self, number: u64) {
        self.apply_acknowledged();
        self.sent.remove(number);
    }

    /// Notes an abandoned request, which the peer may never answer.
    pub fn abandon(&mut self, number: u64, now: Time) {
        self.apply_acknowledged();
        if self.sent.oldest().is_some_and(|oldest| number >= oldest.first) {
            self.abandoned.push_back((number, now.saturating_add(ABANDONED_FOR)));
        }
    }

    /// Removes abandoned requests whose time is over; true where there were any.
    fn drop_abandoned(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some((number, _)) = self.abandoned.front().copied().filter(|(_, until)| *until <= now) {
            self.abandoned.pop_front();
            self.retract(number);
            any = true;
        }
        any
    }

    /// Notes an answer or progress, which acknowledges its request and all sent before it.
    #[inline]
    pub fn acknowledge(&mut self, number: u64, now: Time) {
        self.acknowledged = self.acknowledged.max(number);
        self.last_heard = now;
    }

    /// Removes acknowledged requests: once for all answers since the last request.
    #[inline]
    pub fn apply_acknowledged(&mut self) {
        if self.acknowledged > self.applied {
            self.applied = self.acknowledged;
            if let Some((sent_at, ahead)) = self.sent.acknowledge(self.applied) {
                let delay = self.last_heard.saturating_sub(sent_at);
                self.resize(self.applied, delay, ahead, self.last_heard);
            }
        }
    }

    /// When more may be sent to a silent peer.
    pub fn next_deadline(&self) -> Option<Time> {
        let abandoned = self.abandoned.front().map(|(_, until)| *until);
        abandoned.into_iter().chain(self.silence_deadline()).min()
    }

    /// When the wait for a silent peer is over.
    fn silence_deadline(&self) -> Option<Time> {
        let oldest = self.sent.oldest()?.at;
        Some(self.last_heard.max(oldest).saturating_add(self.silence))
    }

    /// Opens the window to a peer that was silent for long, and for abandoned requests; true where it does.
    pub fn expire(&mut self, now: Time) -> bool {
        self.apply_acknowledged();
        let any = self.drop_abandoned(now);
        self.note_alone(now);
        if self.silence_deadline().is_none_or(|at| at > now) {
            return any;
        }
        self.sent.clear();
        self.last_heard = now;
        if self.contended_until > 0 {
            self.silence = (2 * self.silence).min(MAX_SILENCE);
        }
        true
    }

    /// Sets the size by the delay of the newest acknowledged request, once for each window sent.
    #[inline]
    fn resize(&mut self, number: u64, delay: Time, ahead: u32, now: Time) {
        self.shortest = self.shortest.min(delay);
        if delay < SILENCE {
            self.silence = SILENCE;
        }
        // Mostly no sender was blocked, and nothing waited.
        if number >= self.resized_at && (self.was_full || delay > SLOW) {
            self.choose_size(delay, ahead as usize, now);
        }
    }

    fn choose_size(&mut self, delay: Time, ahead: usize, now: Time) {
        self.note_alone(now);
        let is_shared = self.contended_until > 0;
        let size = if delay <= QUICK.max(self.shortest.saturating_add(self.shortest / 2)) {
            // Only a request with many ahead of it shows that they do not delay each other.
            if !self.was_full || 2 * (ahead + 1) < self.size {
                return;
            }
            self.size.saturating_mul(2).min(self.max)
        } else if is_shared && delay > SLOW.max(self.shortest.saturating_mul(3)) {
            (self.size / 2).max(MIN_SIZE)
        } else if !is_shared
            && delay > SLOW_ALONE.max(self.shortest.saturating_mul(3))
            && ahead > MIN_SIZE_ALONE
        {
            self.size.min(MIN_SIZE_ALONE)
        } else {
            return;
        };
        self.size = size;
        self.was_full = false;
        self.resized_at = self.sent.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VICTIM: u64 = 1;
    const FLOOD: u64 = 2;
    const OTHER: u64 = 3;

    /// A peer, and what it was sent and has not answered.
    struct Peer {
        window: Window,
        queue: VecDeque<(u64, u64)>,
        now: Time,
    }

    impl Peer {
        fn new(most: usize) -> Self {
            Self { window: Window::new(most), queue: VecDeque::new(), now: MILLISECOND }
        }

        /// Sends as many of one sender's as may be sent, up to `most`.
        fn pour(&mut self, sender: u64, most: usize) -> usize {
            let mut poured = 0;
            while poured < most {
                self.window.note_sender(sender, self.now);
                if !self.window.admits(sender) {
                    break;
                }
                self.queue.push_back((sender, self.window.send(sender, self.now)));
                poured += 1;
            }
            poured
        }

        /// Answers the next one, which takes so long; gives whose it was.
        fn answer(&mut self, service: Time) -> u64 {
            let (sender, number) = self.queue.pop_front().expect("something was sent");
            self.now += service;
            self.window.acknowledge(number, self.now);
            self.window.apply_acknowledged();
            sender
        }
    }

    /// How many of a flood's are answered before the victim's one request, of so many, at worst, while it goes on.
    fn ahead(peer: &mut Peer, service: Time, requests: usize) -> usize {
        let mut worst = 0;
        for _ in 0..requests {
            peer.pour(FLOOD, 1_000_000);
            assert_eq!(peer.pour(VICTIM, 1), 1, "it is never held back");
            let mut ahead = 0;
            while peer.answer(service) != VICTIM {
                ahead += 1;
                peer.pour(FLOOD, 1_000_000);
            }
            worst = worst.max(ahead);
        }
        worst
    }

    #[test]
    fn s7_a_flood_puts_few_ahead_of_whoever_else_asks_a_peer_that_works_serially() {
        for service in [MILLISECOND, 8 * MILLISECOND, 100 * MILLISECOND, 900 * MILLISECOND] {
            let mut peer = Peer::new(1 << 20);
            peer.pour(VICTIM, 1);
            peer.answer(service);
            assert!(ahead(&mut peer, service, 1_000) <= 6, "{service}");
        }
    }

    #[test]
    fn s7_a_flood_that_was_there_first_gives_way_when_its_backlog_is_over() {
        let mut peer = Peer::new(1 << 20);
        assert_eq!(peer.pour(FLOOD, 2_000), 2_000, "alone, it is not held back");
        assert_eq!(peer.pour(VICTIM, 1), 1);
        for _ in 0..2_000 {
            assert_eq!(peer.answer(MILLISECOND), FLOOD);
            assert!(peer.queue.len() < 8 || peer.pour(FLOOD, 1) == 0);
        }
        assert_eq!(peer.answer(MILLISECOND), VICTIM);
        assert!(ahead(&mut peer, MILLISECOND, 1_000) <= 6);
    }

    #[test]
    fn s7_one_sender_alone_is_held_back_once_thousands_are_known_to_wait() {
        let mut peer = Peer::new(1 << 20);
        assert_eq!(peer.pour(FLOOD, 3_000), 3_000);
        for _ in 0..3_000 {
            peer.answer(MILLISECOND);
            if peer.queue.len() > 512 {
                assert!(peer.queue.len() > 1_900 || peer.pour(FLOOD, 1) == 0);
            }
        }
        assert_eq!(peer.pour(FLOOD, 3_000), 512);
    }

    #[test]
    fn s7_a_peer_that_answers_at_once_is_sent_more_and_more() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        for _ in 0..10 {
            peer.pour(FLOOD, 100_000);
            peer.now += MILLISECOND;
            while !peer.queue.is_empty() {
                peer.answer(0);
            }
        }
        assert!(peer.pour(FLOOD, 100_000) > 1_000);
    }

    #[test]
    fn s7_a_peer_that_works_on_many_at_once_is_sent_more_and_more_however_long_each_takes() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.now += 500 * MILLISECOND;
        peer.answer(0);
        let mut at_once = Vec::new();
        for _ in 0..8 {
            at_once.push(peer.pour(FLOOD, 100_000));
            peer.now += 500 * MILLISECOND;
            while !peer.queue.is_empty() {
                peer.answer(0);
            }
        }
        assert_eq!(at_once[0], 6);
        assert!(at_once.windows(2).all(|two| two[1] == 2 * two[0]), "{at_once:?}");
    }

    #[test]
    fn s7_what_was_sent_before_an_answered_request_counts_no_longer() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.answer(0);
        for _ in 0..100 {
            // Long ones that are at work, and a short one behind them.
            assert!(peer.pour(FLOOD, 4) == 4 && peer.pour(VICTIM, 1) == 1);
            peer.now += 10 * MILLISECOND;
            let (_, number) = peer.queue.pop_back().unwrap();
            peer.window.acknowledge(number, peer.now);
            peer.window.apply_acknowledged();
        }
        assert_eq!(peer.queue.len(), 400);
        peer.window.sent.assert_empty();
        // They are answered later, which changes nothing.
        while !peer.queue.is_empty() {
            peer.answer(MILLISECOND);
        }
        peer.window.sent.assert_empty();
    }

    #[test]
    fn s7_many_senders_have_a_share_each() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(1, 1);
        peer.answer(0);
        let poured: Vec<_> = (1..=100).map(|sender| peer.pour(sender, 1_000)).collect();
        assert_eq!(poured[0], 1_000, "it was alone");
        assert!(poured[1..].iter().all(|poured| *poured == MIN_SHARE), "{poured:?}");
    }

    #[test]
    fn s7_a_peer_that_has_answered_nothing_is_sent_all() {
        let mut peer = Peer::new(1 << 20);
        for sender in 1..=10 {
            assert_eq!(peer.pour(sender, 100), 100);
        }
        // The first answer tells what it is.
        peer.answer(MILLISECOND);
        assert_eq!(peer.pour(FLOOD, 100), 0);
    }

    #[test]
    fn s7_max_upstream_window_below_at_and_above() {
        for (asked, sent) in [(3, 3), (4, 4), (5, 4)] {
            let mut peer = Peer::new(8);
            // Half of it is another one's.
            assert_eq!(peer.pour(FLOOD, asked), sent);
            assert_eq!(peer.pour(OTHER, 100), (8 - sent).div_ceil(2));
        }
        assert_eq!(Peer::new(1).pour(FLOOD, 2), 1);
    }

    #[test]
    fn s7_a_silent_peer_is_sent_more_each_time_after_twice_as_long() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.answer(0);
        peer.pour(VICTIM, 1);
        assert_eq!(peer.pour(FLOOD, 100), 6);
        let mut waited = Vec::new();
        for _ in 0..5 {
            let due = peer.window.next_deadline().unwrap();
            waited.push((due - peer.now) / MILLISECOND);
            assert!(!peer.window.expire(due - 1));
            assert!(peer.window.expire(due));
            peer.now = due;
            assert_eq!(peer.pour(FLOOD, 100), 6);
        }
        assert_eq!(waited, [1_000, 2_000, 4_000, 8_000, 16_000]);
        // What was sent before counts for nothing now, and an answer to it shows that somebody is there.
        peer.answer(0);
        assert_eq!(peer.pour(FLOOD, 100), 0);
        // Nobody else asked for long.
        peer.now += CONTENTION;
        assert_eq!(peer.pour(FLOOD, 100), 100);
    }

    #[test]
    fn s7_what_was_given_up_counts_for_a_short_time_only() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.answer(0);
        for _ in 0..100 {
            assert_eq!(peer.pour(FLOOD, 100), 6);
            while let Some((_, number)) = peer.queue.pop_front() {
                peer.window.abandon(number, peer.now);
            }
            assert_eq!(peer.pour(FLOOD, 100), 0);
            let due = peer.window.next_deadline().unwrap();
            assert_eq!(due - peer.now, ABANDONED_FOR);
            assert!(peer.window.expire(due));
            peer.now = due;
        }
        assert_eq!(peer.window.abandoned.len(), 0);
        peer.window.sent.assert_empty();
    }

    #[test]
    fn race_03_what_had_not_left_is_taken_out_without_a_trace() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.pour(FLOOD, 3);
        for (_, number) in [2, 0, 3, 1].map(|at: usize| peer.queue[at]) {
            peer.window.retract(number);
            peer.window.retract(number);
        }
        peer.window.sent.assert_empty();
        assert_eq!(peer.window.next_deadline(), None);
    }

    #[test]
    fn s7_a_late_answer_to_what_was_given_up_acknowledges_nothing_that_was_sent_later() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.answer(0);
        peer.pour(FLOOD, 3);
        let abandoned: Vec<_> = peer.queue.drain(..).map(|(_, number)| number).collect();
        for number in &abandoned {
            peer.window.abandon(*number, peer.now);
        }
        peer.now += ABANDONED_FOR;
        assert_eq!(peer.pour(FLOOD, 6), 6, "they count no longer");
        for number in &abandoned {
            peer.window.acknowledge(*number, peer.now);
        }
        peer.window.apply_acknowledged();
        assert_eq!((peer.window.sent.total(), peer.pour(FLOOD, 6)), (6, 0));
    }

    #[test]
    fn what_was_sent_is_found_whatever_is_taken_back_and_taken_up() {
        // A model that keeps each request by itself.
        let mut seed = 7_u64;
        let mut roll = |sides: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % sides
        };
        let mut window = Window::new(1 << 20);
        let mut model: Vec<(u64, u64)> = Vec::new();
        let mut now = 1;
        for _ in 0..20_000 {
            let pick =
                |model: &Vec<(u64, u64)>, at: u64| model.get(at as usize % model.len().max(1)).copied();
            match roll(6) {
                0 => now += 1,
                1 => {
                    if let Some((number, _)) = pick(&model, roll(1_000)) {
                        window.retract(number);
                        window.retract(number);
                        model.retain(|(other, _)| *other != number);
                    }
                }
                2 if roll(4) == 0 => {
                    if let Some((number, _)) = pick(&model, roll(1_000)) {
                        window.acknowledge(number, now);
                        window.apply_acknowledged();
                        model.retain(|(other, _)| *other > number);
                    }
                }
                _ => {
                    let sender = 1 + roll(3);
                    model.push((window.send(sender, now), sender));
                }
            }
            assert_eq!(window.sent.total(), model.len());
            for sender in 1..=3 {
                let own = window.sent.count_of(sender);
                assert_eq!(own, model.iter().filter(|(_, of)| *of == sender).count());
            }
        }
    }
}
