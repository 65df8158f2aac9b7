//! The memory budget of a process: what all connections hold, and which of them are paused or evicted beyond the
//! limit.
//!
//! Each connection has an [`Account`], charged for what its peer can grow: unfinished frames, waiting output,
//! state of requests. The sum is an atomic number, updated when the bytes of one connection have changed by
//! [`GRAIN`]: no lock, and no update for most frames. So the sum is inexact by a grain for each connection, and
//! by what one iteration of a loop adds before it checks, which stops at an eighth beyond the limit.
//!
//! - From three quarters of the limit on, new connections are refused, and the largest holders, with half of the
//!   sum, are not read from. Both end below five eighths.
//! - At the limit the largest holder is evicted, not the one that added the last byte.
//! - What stays there, because the largest holders neither send nor read, is evicted by [`MemoryBudget::evict_largest`].
//!
//! The host is notified by [`AccountHolder::notify`], reads [`Account::state`], and acts in the thread of the
//! connection.

mod account;

use std::sync::{Arc, Weak};

use crate::limits::Exceeded;
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering, lock};

pub use account::{Account, AccountHolder, AccountState, Charge, GRAIN};

/// The budget, and its accounts.
pub struct MemoryBudget {
    max: AtomicUsize,
    held: AtomicUsize,
    /// Sums beyond which a settlement is due.
    upper: AtomicUsize,
    lower: AtomicUsize,
    is_due: AtomicBool,
    is_tight: AtomicBool,
    accounts: Mutex<Accounts>,
    evicted: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Accounts {
    slots: Vec<Option<Weak<Account>>>,
    free: Vec<usize>,
}

/// Usage as names and numbers.
pub type Usage = [(&'static str, u64); 5];

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(most: usize) -> Self {
        let this = Self {
            max: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            upper: AtomicUsize::new(0),
            lower: AtomicUsize::new(0),
            is_due: AtomicBool::new(false),
            is_tight: AtomicBool::new(false),
            accounts: Mutex::new(Accounts::default()),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        this.set_max(most);
        this
    }

    /// Sets the limit; [`MemoryBudget::settle`] acts on it.
    pub fn set_max(&self, most: usize) {
        self.max.store(most, Ordering::Relaxed);
        self.upper.store(pause_at(most), Ordering::Relaxed);
        self.is_due.store(true, Ordering::Release);
    }

    /// The limit.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Bytes held by all.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What is held, of how much, how many are not read from now, and how many were evicted or refused so far.
    pub fn usage(&self) -> Usage {
        let paused =
            self.open_accounts().iter().filter(|account| account.state() == AccountState::Paused).count();
        [
            ("max_total_bytes", self.max() as u64),
            ("held_bytes", self.held() as u64),
            ("paused", paused as u64),
            ("evicted", self.evicted.load(Ordering::Relaxed)),
            ("refused", self.refused.load(Ordering::Relaxed)),
        ]
    }

    /// That the limit is reached, to whom it is refused to grow.
    pub fn exceeded(&self) -> Exceeded {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Exceeded { limit: "max_total_bytes", value: self.max() }
    }

    /// Whether nothing may grow any more: an eighth beyond the limit, before an eviction took effect.
    #[inline]
    pub fn is_full(&self) -> bool {
        let most = self.max.load(Ordering::Relaxed);
        self.held.load(Ordering::Relaxed) > most.saturating_add(most / 8)
    }

    /// Whether [`MemoryBudget::settle`] has something to do.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    /// Whether new connections are refused.
    #[inline]
    pub fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Relaxed)
    }

    /// An account for a connection.
    pub fn open(self: &Arc<Self>) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        let slot = accounts.free.pop().unwrap_or_else(|| {
            accounts.slots.push(None);
            accounts.slots.len() - 1
        });
        let account = Arc::new(Account {
            budget: Arc::clone(self),
            held: AtomicUsize::new(0),
            state: AtomicU8::new(AccountState::Open as u8),
            paused_with: AtomicUsize::new(0),
            slot,
            holder: OnceLock::new(),
        });
        accounts.slots[slot] = Some(Arc::downgrade(&account));
        account
    }

    fn close(&self, slot: usize) {
        let mut accounts = lock(&self.accounts);
        accounts.slots[slot] = None;
        accounts.free.push(slot);
    }

    fn open_accounts(&self) -> Vec<Arc<Account>> {
        let accounts = lock(&self.accounts);
        accounts.slots.iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Adds what belongs to no account.
    fn add(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held >= self.upper.load(Ordering::Relaxed) {
            self.is_due.store(true, Ordering::Release);
        }
    }

    fn subtract(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        if held < self.lower.load(Ordering::Relaxed) {
            self.is_due.store(true, Ordering::Release);
        }
    }

    /// Acts on what is held now: pauses, resumes, evicts. The host calls it when [`MemoryBudget::is_due`], with
    /// nothing locked.
    pub fn settle(&self) {
        if self.is_due.swap(false, Ordering::AcqRel) {
            let (most, held) = (self.max(), self.held());
            self.act(most, held, if held >= most { most } else { usize::MAX });
        }
    }

    /// Evicts the largest holders until five eighths are held, because a connection was paused for too long.
    pub fn evict_largest(&self) {
        if self.is_tight.load(Ordering::Acquire) {
            let (most, held) = (self.max(), self.held());
            self.act(most, held, resume_at(most));
        }
    }

    /// Pauses and resumes, and evicts those who hold most until what is left is less than `evict_to`.
    fn act(&self, most: usize, held: usize, evict_to: usize) {
        let mut holders = self.open_accounts();
        holders.retain(|account| account.held() > 0);
        holders.sort_by_cached_key(|account| std::cmp::Reverse(account.held()));
        let leaves = |account: &Arc<Account>| account.state() == AccountState::Evicted;
        let leaving: usize =
            holders.iter().filter(|account| leaves(account)).map(|account| account.held()).sum();
        let mut left = held.saturating_sub(leaving);
        for account in &holders {
            if left < evict_to {
                break;
            }
            // Skips one whose host cannot close it.
            if !leaves(account) && account.set_state(AccountState::Evicted) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
                left = left.saturating_sub(account.held());
            }
        }
        let was_tight = self.is_tight.load(Ordering::Acquire);
        let is_tight = held >= if was_tight { resume_at(most) } else { pause_at(most) };
        self.is_tight.store(is_tight, Ordering::Release);
        let mut of_the_largest = if is_tight { left / 2 } else { 0 };
        for account in holders.iter().filter(|account| !leaves(account)) {
            let paused = of_the_largest > 0;
            of_the_largest = of_the_largest.saturating_sub(account.held());
            account.paused_with.store(if paused { account.held() } else { 0 }, Ordering::Relaxed);
            account.set_state(if paused { AccountState::Paused } else { AccountState::Open });
        }
        // The next look is due when a thirty-second more is held, at the limit, or when it is enough.
        let step = (most / 32).max(1);
        let next = held.saturating_add(step);
        let upper = match (is_tight, held < most) {
            (false, _) => pause_at(most),
            (true, true) => next.min(most),
            (true, false) => next,
        };
        self.upper.store(upper, Ordering::Relaxed);
        self.lower.store(if is_tight { resume_at(most) } else { 0 }, Ordering::Relaxed);
        let now = self.held();
        if now >= upper || is_tight && now < resume_at(most) {
            self.is_due.store(true, Ordering::Release);
        }
    }
}

const fn pause_at(most: usize) -> usize {
    most - most / 4
}

const fn resume_at(most: usize) -> usize {
    most - most / 8 * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Host {
        told: AtomicUsize,
        is_gone: AtomicBool,
    }

    impl AccountHolder for Host {
        fn notify(&self) -> bool {
            self.told.fetch_add(1, Ordering::Relaxed);
            !self.is_gone.load(Ordering::Relaxed)
        }
    }

    /// Connections of one budget, which the host closes when it is told to.
    struct World {
        budget: Arc<MemoryBudget>,
        connections: Vec<(Arc<Account>, Arc<Host>)>,
    }

    impl World {
        fn new(most: usize, connections: usize) -> Self {
            let budget = Arc::new(MemoryBudget::new(most));
            budget.settle();
            let connections = (0..connections).map(|_| connected(budget.open())).collect();
            Self { budget, connections }
        }

        /// Lets a connection hold so much more; the host settles what is due.
        fn grow(&self, at: usize, bytes: usize) {
            self.connections[at].0.grow(bytes);
            self.settle();
        }

        fn shrink(&self, at: usize, bytes: usize) {
            self.connections[at].0.shrink(bytes);
            self.settle();
        }

        fn settle(&self) {
            while self.budget.is_due() {
                self.budget.settle();
            }
        }

        fn of(&self, state: AccountState) -> Vec<usize> {
            let states = self.connections.iter().map(|(account, _)| account.state());
            states.enumerate().filter(|(_, of)| *of == state).map(|(at, _)| at).collect()
        }

        /// The host closes who was evicted.
        fn close(&mut self) {
            for (account, _) in &mut self.connections {
                if account.state() == AccountState::Evicted {
                    *account = self.budget.open();
                }
            }
            self.settle();
        }
    }

    fn connected(account: Arc<Account>) -> (Arc<Account>, Arc<Host>) {
        let host = Arc::new(Host::default());
        let holder: Weak<dyn AccountHolder> = Arc::downgrade(&host) as Weak<dyn AccountHolder>;
        account.set_holder(holder);
        (account, host)
    }

    #[test]
    fn s6_at_three_quarters_nobody_is_accepted_and_those_who_hold_half_are_not_read_from() {
        let world = World::new(1_000, 5);
        world.grow(0, 100);
        world.grow(1, 300);
        world.grow(2, 349);
        assert_eq!((world.of(AccountState::Paused), world.budget.is_tight()), (vec![], false));
        world.grow(3, 1);
        assert_eq!((world.of(AccountState::Paused), world.budget.is_tight()), (vec![1, 2], true));
        // With hysteresis: less than that does not end it.
        world.shrink(0, 100);
        assert_eq!(world.of(AccountState::Paused), [1, 2]);
        world.shrink(2, 25);
        assert_eq!((world.of(AccountState::Paused), world.budget.is_tight()), (vec![1, 2], true));
        world.shrink(2, 1);
        assert_eq!((world.of(AccountState::Paused), world.budget.is_tight()), (vec![], false));
    }

    #[test]
    fn s6_at_the_limit_the_largest_is_evicted_and_never_who_asked() {
        let mut world = World::new(1_000, 10);
        world.grow(7, 400);
        for at in [0, 1, 2, 3, 4] {
            world.grow(at, 119);
        }
        assert!(world.of(AccountState::Evicted).is_empty());
        world.grow(9, 5);
        assert_eq!(world.of(AccountState::Evicted), [7]);
        // What it holds is as good as gone: nobody else is evicted before it is.
        world.grow(9, 50);
        assert_eq!(world.of(AccountState::Evicted), [7]);
        world.close();
        assert_eq!(world.budget.held(), 5 * 119 + 55);
        assert_eq!(world.budget.usage()[3], ("evicted", 1));
    }

    #[test]
    fn s6_what_others_take_after_one_was_closed_costs_the_next() {
        let mut world = World::new(1_000, 4);
        for (at, bytes) in [500, 400, 400].into_iter().enumerate() {
            world.connections[at].0.grow(bytes);
        }
        world.settle();
        assert_eq!(world.of(AccountState::Evicted), [0]);
        world.close();
        // Less than there was at once, and more than there may be.
        world.grow(3, 401);
        assert_eq!(world.of(AccountState::Evicted), [3]);
        world.close();
        assert_eq!((world.budget.held(), world.budget.is_full()), (800, false));
    }

    #[test]
    fn s6_who_asks_is_evicted_where_it_is_the_largest() {
        let world = World::new(1_000, 2);
        world.grow(0, 300);
        world.grow(1, 700);
        assert_eq!(world.of(AccountState::Evicted), [1]);
    }

    #[test]
    fn s6_what_one_turn_adds_beyond_the_limit_costs_as_many_as_it_takes() {
        let mut world = World::new(1_000, 10);
        for (account, _) in &world.connections {
            account.grow(200);
        }
        assert!(world.budget.is_full());
        world.settle();
        assert_eq!(world.of(AccountState::Evicted).len(), 6);
        world.close();
        assert_eq!(world.budget.held(), 800);
        assert!(!world.budget.is_full());
    }

    #[test]
    fn s6_max_total_bytes_below_at_and_above() {
        for (held, evicted, full) in [(999, 0, false), (1_000, 1, false), (1_125, 1, false), (1_126, 1, true)]
        {
            let world = World::new(1_000, 1);
            world.grow(0, held);
            assert_eq!(world.of(AccountState::Evicted).len(), evicted);
            assert_eq!(world.budget.is_full(), full);
        }
    }

    #[test]
    fn s6_one_that_nobody_can_close_is_passed_over() {
        let world = World::new(1_000, 3);
        world.connections[0].1.is_gone.store(true, Ordering::Relaxed);
        let alone = world.budget.open();
        alone.grow(300);
        world.grow(0, 400);
        world.grow(1, 299);
        assert!(world.of(AccountState::Evicted).is_empty());
        world.grow(2, 1);
        assert_eq!(world.of(AccountState::Evicted), [1]);
        assert_eq!((alone.state(), world.connections[0].0.state()), (AccountState::Open, AccountState::Open));
    }

    #[test]
    fn s6_a_paused_one_that_lets_go_is_read_from_again_and_another_is_not() {
        let world = World::new(1_000, 3);
        world.grow(0, 400);
        world.grow(1, 380);
        assert_eq!(world.of(AccountState::Paused), [0]);
        world.shrink(0, 150);
        assert_eq!((world.budget.held(), world.of(AccountState::Paused)), (630, vec![0]));
        world.grow(2, 100);
        world.shrink(0, 60);
        assert_eq!((world.budget.held(), world.of(AccountState::Paused)), (670, vec![1]));
    }

    #[test]
    fn s6_what_does_not_move_for_long_is_evicted_until_little_is_held() {
        let world = World::new(1_000, 4);
        world.budget.evict_largest();
        for (at, bytes) in [300, 250, 150, 60].into_iter().enumerate() {
            world.grow(at, bytes);
        }
        assert_eq!((world.of(AccountState::Paused), world.of(AccountState::Evicted)), (vec![0, 1], vec![]));
        world.budget.evict_largest();
        assert_eq!(world.of(AccountState::Evicted), [0]);
        world.budget.evict_largest();
        assert_eq!(world.of(AccountState::Evicted), [0], "what it holds is as good as gone");
    }

    #[test]
    fn s6_more_is_paused_as_more_is_held() {
        let world = World::new(3_200, 8);
        (0..8).for_each(|at| world.grow(at, 300 + at));
        assert_eq!(world.of(AccountState::Paused).len(), 4);
        let told: usize = world.connections.iter().map(|(_, host)| host.told.load(Ordering::Relaxed)).sum();
        (0..40).for_each(|_| world.grow(0, 1));
        let after: usize = world.connections.iter().map(|(_, host)| host.told.load(Ordering::Relaxed)).sum();
        assert_eq!(told, after, "nobody is told of a little more");
        world.grow(0, 200);
        assert_eq!(world.of(AccountState::Paused).first(), Some(&0));
    }

    #[test]
    fn s6_a_limit_that_is_changed_holds_at_once() {
        let world = World::new(1_000, 2);
        world.grow(0, 300);
        world.budget.set_max(400);
        world.settle();
        assert_eq!(world.of(AccountState::Paused), [0]);
        world.budget.set_max(1_000);
        world.settle();
        assert!(world.of(AccountState::Paused).is_empty());
        world.budget.set_max(200);
        world.settle();
        assert_eq!(world.of(AccountState::Evicted), [0]);
    }

    #[test]
    fn s6_what_is_gone_is_held_no_longer() {
        let budget = Arc::new(MemoryBudget::new(1_000));
        for _ in 0..10 {
            let account = budget.open();
            account.change(0, 500);
            account.change(500, 200);
            let charge = Charge::new(&account, 50);
            account.adjust_total(0, 30);
            assert_eq!((account.held(), budget.held()), (250, 280));
            drop(charge);
            account.adjust_total(30, 0);
            assert_eq!(budget.held(), 200);
        }
        assert_eq!((budget.held(), lock(&budget.accounts).slots.len()), (0, 1));
    }
}
