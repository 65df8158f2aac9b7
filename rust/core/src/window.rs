//! How much one connection is sent ahead of what it is seen to take up: a window on requests that are passed on.
//!
//! An answer, or progress, shows that the peer took up its request and all that were sent before it. Requests sent after
//! that may still wait there, where nobody can put others ahead of them. So a sender whose requests pile up there is
//! held back here, in a lane of its own ([`crate::lanes`]):
//! - Of the window nobody takes more than half of what the others leave, so that there is always room for who comes.
//! - While one sender is alone, the window is as large as its limit, until thousands are known to wait.
//! - So it is before a peer that has answered nothing yet.
//! - As soon as another one asks, it is small, and grows only as far as that makes nobody wait: answers come as soon as
//!   before. Before a peer that does one thing after the other it stays small; before one that does many at once, or
//!   answers at once, it does not hold anybody up.
//! - A peer that is silent for long is at work on all that it has: some more is sent, each time after twice that long.
//! - Nobody answers what was cancelled, so that it counts for a short time only.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::record::Time;

const MILLISECOND: Time = 1_000_000;

/// The size that several senders begin with and never fall below.
const LEAST: usize = 12;
/// What each of several senders may send, however many they are.
const SHARE: usize = 4;
/// The least size for one sender alone.
const LEAST_ALONE: usize = 1024;
/// How long senders count as several after another one asked.
const TOGETHER: Time = 60_000 * MILLISECOND;
/// How long a silent peer is waited for, first and at most.
const SILENCE: Time = 1_000 * MILLISECOND;
const LONGEST_SILENCE: Time = 32_000 * MILLISECOND;
/// How long a request that was given up counts on.
const GIVEN_UP: Time = 50 * MILLISECOND;
/// Delays below the first show that nothing waits, those below the second may be the noise of a busy machine.
const QUICK: Time = 2 * MILLISECOND;
const SLOW: Time = 4 * MILLISECOND;
/// A delay that shows, of one sender alone, that much waits.
const SLOW_ALONE: Time = 250 * MILLISECOND;

/// Stands for who sent a request that was taken back.
const NOBODY: u64 = 0;

/// Requests that one sender sent one after the other at the same time, and how many were ahead of the first.
#[derive(Clone, Copy)]
struct Run {
    /// The number of the first; the others follow.
    first: u64,
    sender: u64,
    at: Time,
    ahead: u32,
    count: u32,
}

/// See the module's text.
pub(crate) struct Window {
    most: usize,
    size: usize,
    /// What was sent since the newest that was taken up, and the number of what is sent next. No number comes twice: what
    /// was taken back may be answered late.
    sent: VecDeque<Run>,
    next: u64,
    /// The newest that was taken up, and the newest of which note was taken.
    newest: u64,
    caught_up: u64,
    /// Those that nobody waits for any more, and until when they count.
    given_up: VecDeque<(u64, Time)>,
    /// How many of them there are, and how many of each sender's.
    total: usize,
    of: HashMap<u64, usize, RandomState>,
    /// The sender that is kept out of `of`: mostly the next one is the same.
    last: (u64, usize),
    /// Who asked last, and until when several do.
    asked: u64,
    together_until: Time,
    /// Whether somebody was held back since the size was set, and the first number that is sent after that.
    was_full: bool,
    resized_at: u64,
    /// The shortest delay there ever was: a flood that goes on must not make it forgotten.
    shortest: Time,
    /// When the peer was heard of last, and how long it may be silent.
    heard: Time,
    silence: Time,
}

impl Window {
    /// An empty window; `most` is the most that may be sent ahead.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            size: most,
            sent: VecDeque::new(),
            next: 1,
            newest: 0,
            caught_up: 0,
            given_up: VecDeque::new(),
            total: 0,
            of: HashMap::default(),
            last: (NOBODY, 0),
            asked: NOBODY,
            together_until: 0,
            was_full: false,
            resized_at: 0,
            shortest: Time::MAX,
            heard: 0,
            silence: SILENCE,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.sent.capacity() * size_of::<Run>()
            + self.given_up.capacity() * size_of::<(u64, Time)>()
            + self.of.capacity() * size_of::<(u64, usize)>()
    }

    /// Takes note that somebody asks.
    #[inline]
    pub fn note_asked(&mut self, sender: u64, now: Time) {
        self.catch_up();
        if !self.given_up.is_empty() {
            self.drop_given_up(now);
        }
        self.part(now);
        if self.asked == sender {
            return;
        }
        if self.asked != NOBODY {
            if self.together_until == 0 {
                self.size = self.size.min(LEAST);
            }
            self.together_until = now.saturating_add(TOGETHER);
        }
        self.asked = sender;
    }

    /// Takes note that one sender has been alone for long.
    fn part(&mut self, now: Time) {
        if self.together_until > 0 && self.together_until <= now {
            self.together_until = 0;
            self.size = self.most;
        }
    }

    /// Whether one more of this sender's may be sent.
    #[inline]
    pub fn admits(&mut self, sender: u64) -> bool {
        let own =
            if self.last.0 == sender { self.last.1 } else { self.of.get(&sender).map_or(0, |own| *own) };
        // Half of what the others leave: as much as nobody has.
        // Of a peer that never answered nobody knows that it does not work on all that it has.
        let size = if self.newest == 0 { self.most } else { self.size };
        let has_share = own < SHARE || own < size.saturating_sub(self.total);
        let admits = has_share && own < self.most.saturating_sub(self.total);
        self.was_full |= !admits;
        admits
    }

    /// Counts a request that is sent; gives its number here, never 0.
    #[inline]
    pub fn send(&mut self, sender: u64, now: Time) -> u64 {
        match self.sent.back_mut() {
            Some(run) if run.sender == sender && run.at == now => run.count += 1,
            _ => {
                let (first, ahead) = (self.next, self.total as u32);
                self.sent.push_back(Run { first, sender, at: now, ahead, count: 1 });
            }
        }
        self.total += 1;
        *self.count_of(sender) += 1;
        self.next += 1;
        self.next - 1
    }

    /// Takes a request out that had not left, or that nobody waits for.
    pub fn take_back(&mut self, number: u64) {
        self.catch_up();
        let Some(index) = self.sent.partition_point(|run| run.first <= number).checked_sub(1) else { return };
        let run = self.sent[index];
        let before = number - run.first;
        if run.sender == NOBODY || before >= u64::from(run.count) {
            return;
        }
        self.forget(run.sender, 1);
        // The run is parted by what is nobody's now.
        let before = before as u32;
        let after = run.count - before - 1;
        let parts = [
            Run { count: before, ..run },
            Run { first: number, sender: NOBODY, count: 1, ..run },
            Run { first: number + 1, ahead: run.ahead + before, count: after, ..run },
        ];
        self.sent.remove(index);
        for part in parts.into_iter().rev().filter(|part| part.count > 0) {
            self.sent.insert(index, part);
        }
        while self.sent.front().is_some_and(|run| run.sender == NOBODY) {
            self.sent.pop_front();
        }
    }

    /// Takes note that nobody waits for a request any more; the peer may never answer it.
    pub fn give_up(&mut self, number: u64, now: Time) {
        self.catch_up();
        if self.sent.front().is_some_and(|oldest| number >= oldest.first) {
            self.given_up.push_back((number, now.saturating_add(GIVEN_UP)));
        }
    }

    /// Counts those no longer whose time is over; true where there were any.
    fn drop_given_up(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some((number, _)) = self.given_up.front().copied().filter(|(_, until)| *until <= now) {
            self.given_up.pop_front();
            self.take_back(number);
            any = true;
        }
        any
    }

    /// Takes note of an answer or progress: its request, and what was sent before it, was taken up.
    #[inline]
    pub fn take_up(&mut self, number: u64, now: Time) {
        self.newest = self.newest.max(number);
        self.heard = now;
    }

    /// Counts what was taken up no longer: once for all answers that came since somebody asked.
    #[inline]
    pub fn catch_up(&mut self) {
        if self.newest > self.caught_up {
            self.caught_up = self.newest;
            self.drop_taken_up(self.newest);
        }
    }

    fn drop_taken_up(&mut self, number: u64) {
        while let Some(run) = self.sent.front_mut().filter(|run| run.first <= number) {
            let taken = *run;
            let count = (number - run.first + 1).min(u64::from(run.count)) as u32;
            run.first += u64::from(count);
            run.ahead += count;
            run.count -= count;
            let is_newest = run.first == number + 1;
            if run.count == 0 {
                self.sent.pop_front();
            }
            self.forget(taken.sender, count as usize);
            if is_newest {
                let delay = self.heard.saturating_sub(taken.at);
                return self.resize(number, delay, taken.ahead + count - 1, self.heard);
            }
        }
    }

    /// When more may be sent though nothing was heard of the peer, if somebody waits for that.
    pub fn next_deadline(&self) -> Option<Time> {
        let given_up = self.given_up.front().map(|(_, until)| *until);
        given_up.into_iter().chain(self.patience()).min()
    }

    /// When a silent peer has had its time.
    fn patience(&self) -> Option<Time> {
        let oldest = self.sent.front()?.at;
        Some(self.heard.max(oldest).saturating_add(self.silence))
    }

    /// Lets more be sent to a peer that was silent for its time, or for what was given up; true where it does.
    pub fn expire(&mut self, now: Time) -> bool {
        self.catch_up();
        let any = self.drop_given_up(now);
        self.part(now);
        if self.patience().is_none_or(|at| at > now) {
            return any;
        }
        self.sent.clear();
        self.of.clear();
        (self.total, self.last, self.heard) = (0, (NOBODY, 0), now);
        if self.together_until > 0 {
            self.silence = (2 * self.silence).min(LONGEST_SILENCE);
        }
        true
    }

    fn count_of(&mut self, sender: u64) -> &mut usize {
        if self.last.0 != sender {
            let (before, count) = self.last;
            if count > 0 {
                self.of.insert(before, count);
            }
            self.last = (sender, self.of.remove(&sender).unwrap_or(0));
        }
        &mut self.last.1
    }

    fn forget(&mut self, sender: u64, many: usize) {
        if sender == NOBODY {
            return;
        }
        self.total -= many;
        if self.last.0 == sender {
            self.last.1 -= many;
        } else if let Some(count) = self.of.get_mut(&sender) {
            *count -= many;
            if *count == 0 {
                self.of.remove(&sender);
            }
        }
    }

    /// Sets the size by how long the newest that was taken up had waited, once for each window sent.
    #[inline]
    fn resize(&mut self, number: u64, delay: Time, ahead: u32, now: Time) {
        self.shortest = self.shortest.min(delay);
        if delay < SILENCE {
            self.silence = SILENCE;
        }
        // Mostly nobody was held back, and nothing waited.
        if number >= self.resized_at && (self.was_full || delay > SLOW) {
            self.choose_size(delay, ahead as usize, now);
        }
    }

    fn choose_size(&mut self, delay: Time, ahead: usize, now: Time) {
        self.part(now);
        let is_shared = self.together_until > 0;
        let size = if delay <= QUICK.max(self.shortest.saturating_add(self.shortest / 2)) {
            // Only one that had many ahead of it shows that nobody waits for others.
            if !self.was_full || 2 * (ahead + 1) < self.size {
                return;
            }
            self.size.saturating_mul(2).min(self.most)
        } else if is_shared && delay > SLOW.max(self.shortest.saturating_mul(3)) {
            (self.size / 2).max(LEAST)
        } else if !is_shared && delay > SLOW_ALONE.max(self.shortest.saturating_mul(3)) && ahead > LEAST_ALONE
        {
            self.size.min(LEAST_ALONE)
        } else {
            return;
        };
        self.size = size;
        self.was_full = false;
        self.resized_at = self.next;
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
                self.window.note_asked(sender, self.now);
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
            self.window.take_up(number, self.now);
            self.window.catch_up();
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
            peer.window.take_up(number, peer.now);
            peer.window.catch_up();
        }
        assert_eq!((peer.queue.len(), peer.window.total, peer.window.sent.len()), (400, 0, 0));
        // They are answered later, which changes nothing.
        while !peer.queue.is_empty() {
            peer.answer(MILLISECOND);
        }
        assert_eq!((peer.window.total, peer.window.of.len(), peer.window.last.1), (0, 0, 0));
    }

    #[test]
    fn s7_many_senders_have_a_share_each() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(1, 1);
        peer.answer(0);
        let poured: Vec<_> = (1..=100).map(|sender| peer.pour(sender, 1_000)).collect();
        assert_eq!(poured[0], 1_000, "it was alone");
        assert!(poured[1..].iter().all(|poured| *poured == SHARE), "{poured:?}");
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
        peer.now += TOGETHER;
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
                peer.window.give_up(number, peer.now);
            }
            assert_eq!(peer.pour(FLOOD, 100), 0);
            let due = peer.window.next_deadline().unwrap();
            assert_eq!(due - peer.now, GIVEN_UP);
            assert!(peer.window.expire(due));
            peer.now = due;
        }
        assert_eq!((peer.window.total, peer.window.sent.len(), peer.window.given_up.len()), (0, 0, 0));
    }

    #[test]
    fn race_03_what_had_not_left_is_taken_out_without_a_trace() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.pour(FLOOD, 3);
        for (_, number) in [2, 0, 3, 1].map(|at: usize| peer.queue[at]) {
            peer.window.take_back(number);
            peer.window.take_back(number);
        }
        assert_eq!((peer.window.total, peer.window.sent.len(), peer.window.last.1), (0, 0, 0));
        assert!(peer.window.of.is_empty());
        assert_eq!(peer.window.next_deadline(), None);
    }

    #[test]
    fn s7_a_late_answer_to_what_was_given_up_acknowledges_nothing_that_was_sent_later() {
        let mut peer = Peer::new(1 << 20);
        peer.pour(VICTIM, 1);
        peer.answer(0);
        peer.pour(FLOOD, 3);
        let given_up: Vec<_> = peer.queue.drain(..).map(|(_, number)| number).collect();
        for number in &given_up {
            peer.window.give_up(*number, peer.now);
        }
        peer.now += GIVEN_UP;
        assert_eq!(peer.pour(FLOOD, 6), 6, "they count no longer");
        for number in &given_up {
            peer.window.take_up(*number, peer.now);
        }
        peer.window.catch_up();
        assert_eq!((peer.window.total, peer.pour(FLOOD, 6)), (6, 0));
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
                        window.take_back(number);
                        window.take_back(number);
                        model.retain(|(other, _)| *other != number);
                    }
                }
                2 if roll(4) == 0 => {
                    if let Some((number, _)) = pick(&model, roll(1_000)) {
                        window.take_up(number, now);
                        window.catch_up();
                        model.retain(|(other, _)| *other > number);
                    }
                }
                _ => {
                    let sender = 1 + roll(3);
                    model.push((window.send(sender, now), sender));
                }
            }
            assert_eq!(window.total, model.len());
            for sender in 1..=3 {
                let own = if window.last.0 == sender {
                    window.last.1
                } else {
                    window.of.get(&sender).copied().unwrap_or(0)
                };
                assert_eq!(own, model.iter().filter(|(_, of)| *of == sender).count());
            }
        }
    }
}
