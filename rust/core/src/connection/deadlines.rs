//! Deadlines: the idle clock, the maximum, and the pause while a person is asked.

use super::{Connection, Outbound};
use crate::event::{Batch, Host};
use crate::flight::{CancelledBy, Event as Happening};
use crate::record::Time;

impl<C> Outbound<C> {
    /// When it is looked at next, where the idle clock says `idle_now`; `Time::MAX` for never.
    fn next_deadline(&self, idle_now: Time, now: Time) -> Time {
        if self.paused_at > 0 {
            return self.max_at;
        }
        self.max_at.min(now.saturating_add(self.idle_at.saturating_sub(idle_now)))
    }
}

impl<H: Host> Connection<H> {
    pub(super) fn idle_clock(&self, now: Time) -> Time {
        let standing = if self.asking > 0 { now.saturating_sub(self.asking_since) } else { 0 };
        now.saturating_sub(self.stood_still + standing)
    }

    /// Sets the timer of the call in `slot` as its deadlines ask for.
    pub(super) fn arm(&mut self, slot: usize, now: Time) {
        let idle_now = self.idle_clock(now);
        if let Some(entry) = self.outbound.get(slot) {
            self.wake_at(slot, entry.next_deadline(idle_now, now), now);
        }
    }

    /// Looks at the call in `slot` then; never, where that is `Time::MAX`.
    fn wake_at(&mut self, slot: usize, at: Time, now: Time) {
        let Some(place) = self.outbound.place(slot) else { return };
        if at == Time::MAX {
            self.wheel.remove(place);
        } else {
            self.wheel.set(place, at, now);
        }
    }

    pub(super) fn unarm(&mut self, slot: usize) {
        if let Some(place) = self.outbound.place(slot) {
            self.wheel.remove(place);
        }
    }

    /// Renews the idle deadline of the call in `slot`; its timer finds out when it fires (TMO-08).
    pub(crate) fn renew(&mut self, slot: usize, now: Time) {
        let idle_now = self.idle_clock(now);
        if let Some(entry) = self.outbound.get_mut(slot)
            && entry.idle > 0
        {
            entry.idle_at = idle_now.saturating_add(entry.idle);
        }
    }

    /// Takes both deadlines off a call that goes on without end (SUB-13).
    pub(crate) fn disarm(&mut self, slot: usize) {
        if let Some(entry) = self.outbound.get_mut(slot) {
            (entry.idle, entry.idle_at, entry.max_at) = (0, Time::MAX, Time::MAX);
            self.unarm(slot);
        }
    }

    /// Keeps the token of a call that was answered with a task, for `ttl` nanoseconds, `Time::MAX` for without end.
    pub(crate) fn keep_for_task(&mut self, now: Time, slot: usize, number: u64, task: Box<[u8]>, ttl: Time) {
        self.tasks.insert(task.clone(), number);
        if let Some(entry) = self.outbound.get_mut(slot) {
            entry.task = Some(task);
        }
        self.wake_at(slot, now.saturating_add(ttl), now);
    }

    /// Lets the task of call `number` live for `ttl` nanoseconds from its creation, likewise.
    pub(crate) fn live_for(&mut self, now: Time, number: u64, ttl: Time) {
        let Some((slot, _)) = self.table.find(number) else { return };
        let created = self.outbound.get(slot).and_then(|entry| entry.record.ended());
        self.wake_at(slot, created.unwrap_or(now).saturating_add(ttl).max(now), now);
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

    /// Lets the idle clock of call `number` run on.
    pub fn resume(&mut self, now: Time, number: u64) {
        let Some((slot, state)) = self.table.find(number) else { return };
        let idle_now = self.idle_clock(now);
        let Some(entry) = self.outbound.get_mut(slot) else { return };
        if state.is_live() && entry.paused_at > 0 {
            entry.idle_at = entry.idle_at.saturating_add(idle_now.saturating_sub(entry.paused_at));
            entry.paused_at = 0;
            self.arm(slot, now);
        }
    }

    /// When [`Connection::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        let waits = [self.output.next_release(), self.output.lanes.next_deadline()];
        let deadlines = [self.wheel.next(), self.paces.next(), self.deadlines.next()];
        deadlines.into_iter().chain(waits).flatten().min()
    }

    /// Ends every call whose deadline passed (TMO-04 to TMO-09), and lets what waited long enough leave.
    pub fn expire(&mut self, now: Time, batch: &mut Batch<H>) {
        self.output.release(now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        let idle_now = self.idle_clock(now);
        for place in due.drain(..) {
            let Some(entry) = self.outbound.at(place) else { continue };
            let number = entry.record.number;
            if entry.task.is_some() {
                // What fired is the task's time to live: the deadlines ended with the call (TSK-45).
                self.end_task(number, batch);
                continue;
            }
            let event = if entry.max_at <= now {
                Happening::MaxExpired
            } else if entry.paused_at == 0 && entry.idle_at <= idle_now {
                Happening::IdleExpired
            } else {
                // While a person is asked the idle clock stands still; looking again ten times a second is enough.
                let now = if self.asking > 0 { now + 100_000_000 } else { now };
                let at = entry.next_deadline(self.idle_clock(now), now);
                self.wheel.set(place, at, now);
                continue;
            };
            let reason = match event {
                Happening::MaxExpired => "timed out: no answer within the maximum timeout".to_owned(),
                _ => format!("timed out: no answer and no progress for {} s", entry.idle as f64 / 1e9),
            };
            if let Ok(moved) = self.table.claim(number, event) {
                self.abandon(now, number, moved, CancelledBy::Timeout, Some(reason.as_bytes()), batch);
            }
        }
        self.paces.expire(now, &mut due);
        for place in due.drain(..) {
            self.go_on_with_progress(place, now);
        }
        self.due = due;
        self.output.lanes.expire(now);
    }

    /// Writes the progress of the request at `place`, which came too fast; its time has come.
    fn go_on_with_progress(&mut self, place: usize, now: Time) {
        let rate = self.limits.max_progress_rate;
        let Some(number) = self.inbound.at(place).map(|entry| entry.record.number) else { return };
        let Some((slot, _)) = self.arrivals.find(number) else { return };
        let Some(entry) = self.inbound.get_mut(slot) else { return };
        let Some(said) = entry.said.as_mut().filter(|said| said.pending.is_some()) else { return };
        if self.congested {
            return self.wait_with_progress(number);
        }
        match said.pace.step(now, rate) {
            Ok(()) => self.flush_pending(slot),
            Err(next) => self.paces.set(place, next, now),
        }
    }
}
