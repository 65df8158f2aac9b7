//! Deadlines: the idle timeout, the maximum, and the pause during elicitations.

use super::{Connection, Outbound};
use crate::connection::event::{Batch, Host};
use crate::flight::record::Time;
use crate::flight::state::{CancelledBy, FlightEvent};

impl<C> Outbound<C> {
    /// Its next deadline, given the idle clock; `Time::MAX` for never.
    fn next_deadline(&self, idle_now: Time, now: Time) -> Time {
        if self.paused_at > 0 {
            return self.max_at;
        }
        self.max_at.min(now.saturating_add(self.idle_at.saturating_sub(idle_now)))
    }
}

impl<H: Host> Connection<H> {
    pub(super) fn idle_clock(&self, now: Time) -> Time {
        let standing = if self.elicitations > 0 { now.saturating_sub(self.paused_since) } else { 0 };
        now.saturating_sub(self.paused_total + standing)
    }

    /// Sets the timer of the call in `slot` as its deadlines ask for.
    pub(super) fn set_timer(&mut self, slot: usize, now: Time) {
        let idle_now = self.idle_clock(now);
        if let Some(entry) = self.outbound.get(slot) {
            self.schedule_at(slot, entry.next_deadline(idle_now, now), now);
        }
    }

    /// Sets the timer of the call in `slot`; removes it where `at` is `Time::MAX`.
    fn schedule_at(&mut self, slot: usize, at: Time, now: Time) {
        let Some(index) = self.outbound.index(slot) else { return };
        if at == Time::MAX {
            self.timers.remove(index);
        } else {
            self.timers.set(index, at, now);
        }
    }

    pub(super) fn clear_timer(&mut self, slot: usize) {
        if let Some(index) = self.outbound.index(slot) {
            self.timers.remove(index);
        }
    }

    /// Renews the idle deadline of the call in `slot`; the timer reads it when it fires (TMO-08).
    pub(crate) fn renew_idle(&mut self, slot: usize, now: Time) {
        let idle_now = self.idle_clock(now);
        if let Some(entry) = self.outbound.get_mut(slot)
            && entry.idle > 0
        {
            entry.idle_at = idle_now.saturating_add(entry.idle);
        }
    }

    /// Removes both deadlines of an open-ended call (SUB-13).
    pub(crate) fn clear_deadlines(&mut self, slot: usize) {
        if let Some(entry) = self.outbound.get_mut(slot) {
            (entry.idle, entry.idle_at, entry.max_at) = (0, Time::MAX, Time::MAX);
            self.clear_timer(slot);
        }
    }

    /// Keeps the token of a call that was answered with a task, for `ttl` nanoseconds, `Time::MAX` for without end.
    pub(crate) fn keep_until_ttl(&mut self, now: Time, slot: usize, number: u64, task: Box<[u8]>, ttl: Time) {
        self.tasks.insert(task.clone(), number);
        if let Some(entry) = self.outbound.get_mut(slot) {
            entry.task = Some(task);
        }
        self.schedule_at(slot, now.saturating_add(ttl), now);
    }

    /// Changes the time to live of the task of call `number`: `ttl` nanoseconds from its creation, `Time::MAX`
    /// for without end.
    pub(crate) fn set_task_ttl(&mut self, now: Time, number: u64, ttl: Time) {
        let Some((slot, _)) = self.table.find(number) else { return };
        let created = self.outbound.get(slot).and_then(|entry| entry.record.ended());
        self.schedule_at(slot, created.unwrap_or(now).saturating_add(ttl).max(now), now);
    }

    /// Stops the idle clock of call `number` while a person is asked; false where it is over or stands still.
    pub fn pause(&mut self, now: Time, number: u64) -> bool {
        let Some((slot, state)) = self.table.find(number) else { return false };
        let idle_now = self.idle_clock(now);
        match self.outbound.get_mut(slot) {
            Some(entry) if state.is_live() && entry.paused_at == 0 => {
                entry.paused_at = idle_now.max(1);
                true
            }
            _ => false,
        }
    }

    /// Restarts the idle clock of call `number`.
    pub fn resume(&mut self, now: Time, number: u64) {
        let Some((slot, state)) = self.table.find(number) else { return };
        let idle_now = self.idle_clock(now);
        let Some(entry) = self.outbound.get_mut(slot) else { return };
        if state.is_live() && entry.paused_at > 0 {
            entry.idle_at = entry.idle_at.saturating_add(idle_now.saturating_sub(entry.paused_at));
            entry.paused_at = 0;
            self.set_timer(slot, now);
        }
    }

    /// When [`Connection::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.is_over() {
            // Nothing is waited for: a timer would only keep what is over.
            return None;
        }
        let waits = [self.output.next_release(), self.output.fair_queue.next_deadline()];
        let deadlines = [self.timers.next(), self.progress_timers.next(), self.deadlines.next()];
        deadlines.into_iter().chain(waits).flatten().min()
    }

    /// Ends every call whose deadline passed (TMO-04 to TMO-09), and releases delayed answers and rate-limited
    /// progress.
    pub fn expire(&mut self, now: Time, batch: &mut Batch<H>) {
        self.output.release(now);
        let mut due = std::mem::take(&mut self.expired);
        self.timers.expire(now, &mut due);
        let idle_now = self.idle_clock(now);
        for index in due.drain(..) {
            let Some(entry) = self.outbound.at(index) else { continue };
            let number = entry.record.number;
            if entry.task.is_some() {
                // What fired is the task's time to live: the deadlines ended with the call (TSK-45).
                self.end_task(number, batch);
                continue;
            }
            let event = if entry.max_at <= now {
                FlightEvent::MaxExpired
            } else if entry.paused_at == 0 && entry.idle_at <= idle_now {
                FlightEvent::IdleExpired
            } else {
                // The idle clock stands still during elicitations; a check ten times a second is enough.
                let now = if self.elicitations > 0 { now + 100_000_000 } else { now };
                let at = entry.next_deadline(self.idle_clock(now), now);
                self.timers.set(index, at, now);
                continue;
            };
            let reason = match event {
                FlightEvent::MaxExpired => "timed out: no answer within the maximum timeout".to_owned(),
                _ => format!("timed out: no answer and no progress for {} s", entry.idle as f64 / 1e9),
            };
            if let Ok(moved) = self.table.claim(number, event) {
                self.abandon(now, number, moved, CancelledBy::Timeout, Some(reason.as_bytes()), batch);
            }
        }
        self.progress_timers.expire(now, &mut due);
        for index in due.drain(..) {
            self.resume_progress(index, now);
        }
        self.expired = due;
        self.output.fair_queue.expire(now);
    }

    /// Writes the rate-limited progress of the request at `index`, which is due.
    fn resume_progress(&mut self, index: usize, now: Time) {
        let rate = self.limits.max_progress_rate;
        let Some(number) = self.inbound.at(index).map(|entry| entry.record.number) else { return };
        let Some((slot, _)) = self.arrivals.find(number) else { return };
        let Some(entry) = self.inbound.get_mut(slot) else { return };
        let Some(outbound) = entry.outbound_state.as_mut().filter(|outbound| outbound.pending.is_some())
        else {
            return;
        };
        if self.congested {
            return self.queue_progress(number);
        }
        match outbound.rate_limiter.check(now, rate) {
            Ok(()) => self.flush_pending(slot),
            Err(next) => self.progress_timers.set(index, next, now),
        }
    }
}
