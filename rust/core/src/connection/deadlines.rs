//! Deadlines: the idle clock, the maximum, and the pause while a person is asked.

use super::{Connection, Outbound};
use crate::event::{Batch, Host};
use crate::flight::{CancelledBy, Event as Happening};
use crate::record::Time;

impl<H: Host> Connection<H> {
    pub(super) fn idle_clock(&self, now: Time) -> Time {
        let standing = if self.asking > 0 { now.saturating_sub(self.asking_since) } else { 0 };
        now.saturating_sub(self.stood_still + standing)
    }

    pub(super) fn arm(&mut self, slot: usize, entry: &Outbound<H::Call>, now: Time) {
        let idle_in = entry.idle_at.saturating_sub(self.idle_clock(now));
        let at =
            if entry.paused_at > 0 { entry.max_at } else { entry.max_at.min(now.saturating_add(idle_in)) };
        if at == Time::MAX {
            self.wheel.remove(slot);
        } else {
            self.wheel.set(slot, at, now);
        }
    }

    /// Renews the idle deadline of the call in `slot`; its timer finds out when it fires (TMO-08).
    pub(crate) fn renew(&mut self, slot: usize, now: Time) {
        let idle_now = self.idle_clock(now);
        if let Some(entry) = self.outbound[slot].as_mut()
            && entry.idle > 0
        {
            entry.idle_at = idle_now.saturating_add(entry.idle);
        }
    }

    /// Takes both deadlines off a call that goes on without end (SUB-13).
    pub(crate) fn disarm(&mut self, slot: usize) {
        if let Some(entry) = self.outbound[slot].as_mut() {
            (entry.idle, entry.idle_at, entry.max_at) = (0, Time::MAX, Time::MAX);
            self.wheel.remove(slot);
        }
    }

    /// Keeps the token of a call that was answered with a task, for `ttl` nanoseconds, `Time::MAX` for without end.
    pub(crate) fn keep_for_task(&mut self, now: Time, slot: usize, number: u64, task: Box<[u8]>, ttl: Time) {
        self.tasks.insert(task.clone(), number);
        if let Some(entry) = self.outbound[slot].as_mut() {
            entry.task = Some(task);
        }
        self.forget_task_at(now, slot, now.saturating_add(ttl));
    }

    /// Lets the task of call `number` live for `ttl` nanoseconds from its creation, likewise.
    pub(crate) fn live_for(&mut self, now: Time, number: u64, ttl: Time) {
        let Some((slot, _)) = self.table.find(number) else { return };
        let created = self.outbound[slot].as_ref().and_then(|entry| entry.record.ended());
        self.forget_task_at(now, slot, created.unwrap_or(now).saturating_add(ttl).max(now));
    }

    fn forget_task_at(&mut self, now: Time, slot: usize, at: Time) {
        if at == Time::MAX {
            self.wheel.remove(slot);
        } else {
            self.wheel.set(slot, at, now);
        }
    }

    /// Stops the idle clock of call `number` while a person is asked; false where it is over or stands still.
    pub fn pause(&mut self, now: Time, number: u64) -> bool {
        let Some((slot, state)) = self.table.find(number) else { return false };
        let idle_now = self.idle_clock(now);
        match self.outbound[slot].as_mut() {
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
        let Some(mut entry) = self.outbound[slot].take() else { return };
        if state.is_live() && entry.paused_at > 0 {
            entry.idle_at = entry.idle_at.saturating_add(idle_now.saturating_sub(entry.paused_at));
            entry.paused_at = 0;
            self.arm(slot, &entry, now);
        }
        self.outbound[slot] = Some(entry);
    }

    /// When [`Connection::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next()
    }

    /// Ends every call whose deadline passed (TMO-04 to TMO-09).
    pub fn expire(&mut self, now: Time, batch: &mut Batch<H>) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        let idle_now = self.idle_clock(now);
        for slot in due.drain(..) {
            let Some(entry) = self.outbound[slot].take() else { continue };
            let number = entry.record.number;
            if entry.task.is_some() {
                // What fired is the task's time to live: the deadlines ended with the call (TSK-45).
                self.outbound[slot] = Some(entry);
                self.end_task(number, batch);
                continue;
            }
            let event = if entry.max_at <= now {
                Happening::MaxExpired
            } else if entry.paused_at == 0 && entry.idle_at <= idle_now {
                Happening::IdleExpired
            } else {
                self.arm(slot, &entry, now.max(self.wheel_floor(now)));
                self.outbound[slot] = Some(entry);
                continue;
            };
            let reason = match event {
                Happening::MaxExpired => "timed out: no answer within the maximum timeout".to_owned(),
                _ => format!("timed out: no answer and no progress for {} s", entry.idle as f64 / 1e9),
            };
            self.outbound[slot] = Some(entry);
            if let Ok(moved) = self.table.claim(number, event) {
                self.abandon(now, number, moved, CancelledBy::Timeout, Some(&reason), batch);
            }
        }
        self.due = due;
    }

    pub(super) fn wheel_floor(&self, now: Time) -> Time {
        // While a person is asked the idle clock stands still; looking again ten times a second is enough.
        if self.asking > 0 { now + 100_000_000 } else { now }
    }
}
