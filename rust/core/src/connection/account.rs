//! Memory accounting of a connection, and the deadlines of its peer for the handshake and for each frame.

use std::sync::Arc;

use super::{Connection, Inbound, Pending};
use crate::connection::event::Host;
use crate::connection::output::Output;
use crate::flight::record::{Record, Time};
use crate::limits::Exceeded;
use crate::memory::{Account, GRAIN};

/// Bytes of an unfinished frame that count as progress of its peer.
const PROGRESS_BYTES: usize = 64 << 10;

/// Bytes by purpose, where no other structure counts them.
#[derive(Default)]
pub(crate) struct Holdings {
    account: Option<Arc<Account>>,
    /// What the account was charged, and what all are for requests that others have us send.
    charged: usize,
    carried: usize,
    /// Bytes of tables, when this many entries were in them at once.
    tables: usize,
    peak: usize,
    /// Progress that waits for the transport or its time.
    pub(crate) progress: usize,
    /// The read buffer, while it has part of a frame.
    unfinished: usize,
    /// Bytes that the transport has not written.
    transport: usize,
    /// Params of the peer's requests that the host holds.
    host: usize,
}

/// A deadline that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// A peer that came to us did not open the connection: no valid frame came, or the handshake went no further.
    Opening(Exceeded),
    /// The rest of a frame did not come.
    Frame(Exceeded),
    /// The connection was not read from for so long, since all together hold too much.
    Reading,
}

/// Until when something is waited for; `Time::MAX` for nothing.
pub(super) struct Deadlines {
    opening: Time,
    frame: Time,
    reading: Time,
    /// How much of a frame there was when its deadline was set.
    bytes: usize,
    is_paused: bool,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { opening: Time::MAX, frame: Time::MAX, reading: Time::MAX, bytes: 0, is_paused: false }
    }
}

impl Deadlines {
    #[inline]
    pub(super) fn next(&self) -> Option<Time> {
        let next = self.opening.min(self.frame).min(self.reading);
        (next < Time::MAX).then_some(next)
    }
}

const MILLISECOND: Time = 1_000_000;

const fn after(now: Time, milliseconds: usize) -> Time {
    now.saturating_add((milliseconds as Time).saturating_mul(MILLISECOND))
}

impl<H: Host> Connection<H> {
    /// Charges what the connection holds to an account from now on.
    pub fn set_account(&mut self, account: Arc<Account>) {
        account.grow(self.holdings.charged);
        self.holdings.account = Some(account);
    }

    /// The account, if there is one.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.holdings.account.as_ref()
    }

    /// Charges what is held now, if that has changed by a grain. The host calls it after a batch and after a take.
    #[inline]
    pub fn settle_account(&mut self) {
        let peak = self.inbound.peak() + self.outbound.peak();
        if peak != self.holdings.peak {
            self.measure_tables(peak);
        }
        let Holdings { tables, progress, unfinished, transport, host, charged, .. } = self.holdings;
        let held = self.output.held(self.congested) + tables + progress + unfinished + transport + host;
        if held.abs_diff(charged) >= GRAIN {
            self.charge(held);
        }
    }

    #[cold]
    fn charge(&mut self, held: usize) {
        if let Some(account) = &self.holdings.account {
            account.change(self.holdings.charged, held);
        }
        self.holdings.charged = held;
    }

    #[cold]
    fn measure_tables(&mut self, peak: usize) {
        let holdings = &mut self.holdings;
        holdings.peak = peak;
        holdings.tables = self.arrivals.capacity() * 8
            + self.inbound.bytes()
            + self.inbound.peak() * size_of::<Record>()
            + self.id_index.bytes()
            + self.progress_timers.bytes()
            + (self.deferred.capacity() + self.pending_progress.capacity()) * 8;
        // Requests of ours are as many as our callers ask for, or the clients of a relay: this peer has no part in it.
        let carried = self.table.capacity() * 8
            + self.outbound.bytes()
            + self.outbound.peak() * size_of::<Record>()
            + self.timers.bytes();
        if let Some(account) = &holdings.account
            && carried.abs_diff(holdings.carried) >= GRAIN
        {
            account.adjust_total(holdings.carried, carried);
            holdings.carried = carried;
        }
    }

    /// Which limit so many more bytes of output would exceed.
    pub(crate) fn exceeded_by(&self, bytes: usize) -> Option<Exceeded> {
        if self.output.len() + bytes > self.limits.max_output_bytes {
            let (limit, value) = ("max_output_bytes", self.limits.max_output_bytes);
            return Some(Exceeded { limit, value });
        }
        let budget = self.holdings.account.as_ref().map(|account| account.budget());
        budget.filter(|budget| budget.is_full()).map(|budget| budget.exceeded())
    }

    /// Whether nothing may grow any more, in the whole process.
    pub(crate) fn is_full(&self) -> bool {
        self.holdings.account.as_ref().is_some_and(|account| account.budget().is_full())
    }

    /// Whether so many bytes of progress may wait.
    pub(crate) fn keeps_progress(&self, bytes: usize) -> bool {
        self.holdings.progress + bytes <= self.limits.max_output_bytes && !self.is_full()
    }

    /// Drops the read and write buffers, because the transport is gone.
    pub fn drop_buffers(&mut self) {
        self.output = Output::new(&self.limits);
        self.holdings.transport = 0;
        self.holdings.unfinished = 0;
        self.deadlines = Deadlines::default();
        self.settle_account();
    }

    /// Notes how many bytes the transport holds back, where it is full.
    pub fn note_transport(&mut self, bytes: usize) {
        self.holdings.transport = bytes;
        self.settle_account();
    }

    /// Notes how much came of messages that are not whole yet, where they come beside each other.
    pub fn note_arriving(&mut self, bytes: usize) {
        self.holdings.unfinished = bytes;
        self.settle_account();
    }

    /// Notes the bytes of the peer's params that the host holds.
    #[inline]
    pub fn note_host(&mut self, bytes: usize) {
        self.holdings.host = bytes;
    }

    // ---- deadlines ----

    /// Has the peer open the connection within `max_opening_ms`.
    pub fn expect_opening(&mut self, now: Time) {
        self.deadlines.opening = after(now, self.limits.max_opening_ms);
    }

    /// Notes how much of a frame was read without its end, and how large the buffer is that has it. The rest has to come
    /// within `max_frame_ms` of its begin, or of the last 64 KiB of it.
    #[inline]
    pub fn note_unfinished(&mut self, now: Time, bytes: usize, buffer: usize) {
        if bytes > 0 || self.deadlines.bytes > 0 {
            self.holdings.unfinished = if bytes == 0 { 0 } else { buffer };
            self.set_frame_deadline(now, bytes);
        }
    }

    fn set_frame_deadline(&mut self, now: Time, bytes: usize) {
        let Deadlines { frame, bytes: before, is_paused, .. } = &mut self.deadlines;
        if bytes == 0 {
            (*frame, *before) = (Time::MAX, 0);
        } else if *before == 0 || bytes < *before || bytes >= *before + PROGRESS_BYTES {
            *before = bytes;
            *frame = if *is_paused { Time::MAX } else { after(now, self.limits.max_frame_ms) };
        }
    }

    /// Takes note that we read from the peer or do not; while we do not, a frame may take any time.
    pub fn set_reading(&mut self, now: Time, reads: bool) {
        let deadlines = &mut self.deadlines;
        deadlines.is_paused = !reads;
        deadlines.reading = if reads { Time::MAX } else { after(now, self.limits.max_paused_ms) };
        if deadlines.bytes > 0 {
            deadlines.frame = if reads { after(now, self.limits.max_frame_ms) } else { Time::MAX };
        }
    }

    /// The next deadline that passed; None where none did.
    pub fn next_overdue(&mut self, now: Time) -> Option<Overdue> {
        let limits = self.limits;
        let exceeded = |limit, value| Exceeded { limit, value };
        if self.deadlines.opening <= now {
            self.deadlines.opening = Time::MAX;
            if !self.is_opened() {
                return Some(Overdue::Opening(exceeded("max_opening_ms", limits.max_opening_ms)));
            }
        }
        if self.deadlines.frame <= now {
            self.deadlines.frame = Time::MAX;
            return Some(Overdue::Frame(exceeded("max_frame_ms", limits.max_frame_ms)));
        }
        if self.deadlines.reading <= now {
            self.deadlines.reading = after(now, limits.max_paused_ms);
            return Some(Overdue::Reading);
        }
        None
    }

    /// Whether the peer said something that counts: pings and what is refused do not, nor half a handshake, whose other
    /// half may come with it.
    fn is_opened(&self) -> bool {
        let counters = &self.counters;
        let said = counters.frames_in.saturating_sub(counters.frames_refused + counters.pings);
        said > u64::from(!self.rules.initialized)
    }
}

impl Pending {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Pending::Update(update) => update.message.as_ref().map_or(0, |message| message.len()),
            Pending::Frame(frame) => frame.len(),
        }
    }
}

impl<R> Inbound<R> {
    /// Bytes of progress that waits.
    pub(super) fn pending_bytes(&self) -> usize {
        self.outbound_state.as_ref().and_then(|said| said.pending.as_ref()).map_or(0, Pending::bytes)
    }
}

impl<H: Host> Drop for Connection<H> {
    fn drop(&mut self) {
        if let Some(account) = &self.holdings.account {
            account.shrink(self.holdings.charged);
            account.adjust_total(self.holdings.carried, 0);
        }
    }
}
