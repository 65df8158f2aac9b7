//! Answers that wait for progress to be read (E7), before a client that reads what and when it likes.

use std::sync::Arc;

use proptest::prelude::*;
use turnout_core::connection::event::{Batch, Event, Host};
use turnout_core::connection::output::delayed::Delay;
use turnout_core::connection::{Answer, Connection};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, ProgressUpdate};
use turnout_core::flight::state::Outcome;
use turnout_core::limits::Limits;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::span::Span;

const MILLISECOND: u64 = 1_000_000;

struct Nobody;

impl Host for Nobody {
    type Call = ();
    type Request = ();
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    Report(usize),
    Respond(usize),
    Cancel(usize),
    Notify,
    Flush,
    Read(usize),
    Tick(u64),
    Congest(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..8;
    prop_oneof![
        4 => Just(Step::Ask),
        6 => which.clone().prop_map(Step::Report),
        4 => which.clone().prop_map(Step::Respond),
        1 => which.prop_map(Step::Cancel),
        1 => Just(Step::Notify),
        6 => Just(Step::Flush),
        4 => prop_oneof![Just(usize::MAX), 0usize..200].prop_map(Step::Read),
        4 => (0u64..8 * MILLISECOND).prop_map(Step::Tick),
        1 => any::<bool>().prop_map(Step::Congest),
    ]
}

/// What is known of a request, by its id.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    number: u64,
    answered: bool,
    cancelled: bool,
    /// Where its last progress ended, when that was handed over, and by which take.
    progress: Option<(usize, u64, usize)>,
    answers: usize,
}

struct World {
    core: Connection<Nobody>,
    delay: Delay,
    now: u64,
    asked: Vec<Asked>,
    handed: Vec<u8>,
    takes: usize,
    read: usize,
    ended: bool,
    congested: bool,
    /// The kernel counts the memory that unread bytes take, which is more than the bytes.
    overhead: u64,
}

impl World {
    fn new(delay: Delay, overhead: u64) -> Self {
        let rules = Rules { revision: Revision::V2025_11_25, role: Role::Server, ..Rules::default() };
        let peer = PeerInfo::new("client", "model");
        let mut core = Connection::new(peer, Limits::default(), rules, Arc::new(Ledger::new(10)));
        let now = 1_000 * MILLISECOND;
        core.delay_answers(now, delay);
        Self {
            core,
            delay,
            now,
            asked: Vec::new(),
            handed: Vec::new(),
            takes: 0,
            read: 0,
            ended: false,
            congested: false,
            overhead,
        }
    }

    fn receive(&mut self, frame: &str) {
        let mut batch = Batch::default();
        self.core.receive(self.now, frame.as_bytes(), Span::new(0, frame.len()), &mut batch);
        for event in batch.events {
            if let Event::Request { record, .. } = event {
                self.asked.push(Asked { number: record.number, ..Asked::default() });
            }
        }
    }

    fn number(&self, which: usize) -> u64 {
        self.asked.get(self.asked.len().wrapping_sub(which + 1)).map_or(0, |asked| asked.number)
    }

    fn asked_mut(&mut self, which: usize) -> Option<&mut Asked> {
        let index = self.asked.len().checked_sub(which + 1)?;
        self.asked.get_mut(index)
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Ask => {
                let id = self.asked.len();
                self.receive(&format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"method":"m","params":{{"_meta":{{"progressToken":{id}}}}}}}"#
                ));
            }
            Step::Report(which) => {
                let update = ProgressUpdate { progress: self.now as f64, total: None, message: None };
                let _ = self.core.progress(self.now, self.number(which), &update);
                self.now += 1;
            }
            Step::Respond(which) => {
                let (now, number) = (self.now, self.number(which));
                let written = self.core.answer(now, number, Answer::Result(b"{}")).written;
                if let Some(asked) = self.asked_mut(which) {
                    prop_assert!(!(written && (asked.answered || asked.cancelled)), "one end for each");
                    asked.answered |= written;
                }
            }
            Step::Cancel(which) => {
                let Some(id) = self.asked.len().checked_sub(which + 1) else { return Ok(()) };
                let params = format!(r#"{{"requestId":{id}}}"#);
                self.receive(&format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#
                ));
                self.asked[id].cancelled = true;
            }
            Step::Notify => drop(self.core.notify(self.now, 0, "notifications/message", b"{}")),
            Step::Flush => self.flush()?,
            Step::Read(most) => {
                let most = most.min(self.handed.len() - self.read);
                self.read += most;
            }
            Step::Tick(time) => {
                self.now += time;
                self.core.expire(self.now, &mut Batch::default());
            }
            Step::Congest(full) => {
                self.congested = full;
                self.core.set_congested(full);
            }
        }
        Ok(())
    }

    /// What the host does once a turn.
    fn flush(&mut self) -> Result<(), TestCaseError> {
        if self.core.needs_unread(self.now) {
            prop_assert_eq!(self.delay, Delay::UntilRead);
            let unread = (self.handed.len() - self.read) as u64 * self.overhead;
            self.core.note_unread(self.now, Some(unread));
        }
        if self.congested {
            return Ok(());
        }
        let taken = self.core.drain_output(self.now);
        self.takes += 1;
        for line in taken.split_inclusive(|byte| *byte == b'\n') {
            self.handed.extend_from_slice(line);
            self.check(line)?;
        }
        Ok(())
    }

    /// Checks a line as it is handed over.
    fn check(&mut self, line: &[u8]) -> Result<(), TestCaseError> {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        if let Some(token) = line["params"]["progressToken"].as_u64() {
            let asked = &mut self.asked[token as usize];
            prop_assert_eq!(asked.answers, 0, "nothing after the answer");
            asked.progress = Some((self.handed.len(), self.now, self.takes));
        }
        if let Some(id) = line["id"].as_u64() {
            let asked = &mut self.asked[id as usize];
            asked.answers += 1;
            prop_assert!(asked.answered && asked.answers == 1);
            let longest = match self.delay {
                Delay::None => 0,
                Delay::UntilRead => 20 * MILLISECOND,
                Delay::Gap => 5 * MILLISECOND,
            };
            let may_leave = asked.cancelled
                || self.ended
                || asked.progress.is_none_or(|(end, at, take)| {
                    let read = self.delay == Delay::UntilRead && end <= self.read;
                    take < self.takes && (read || at + longest <= self.now)
                });
            prop_assert!(may_leave, "answered {} at {} with {} read: {:?}", id, self.now, self.read, asked);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn test_e7_an_answer_comes_once_and_never_in_one_read_with_its_progress_unless_its_time_is_over(
        steps in prop::collection::vec(step(), 1..120),
        delay in prop_oneof![3 => Just(Delay::UntilRead), 1 => Just(Delay::Gap), 1 => Just(Delay::None)],
        overhead in 1u64..4,
        ends in any::<bool>(),
    ) {
        let mut world = World::new(delay, overhead);
        for step in &steps {
            world.step(step)?;
        }
        world.step(&Step::Congest(false))?;
        if ends {
            // Nothing is lost when the connection ends, and what waited has no more to wait for.
            world.core.end(world.now, Outcome::PeerClosed, None, &mut Batch::default());
            world.ended = true;
            world.flush()?;
        } else {
            // A host whose timer fires when the core says so needs no more than the longest wait.
            while world.core.output_ready() > 0 {
                world.flush()?;
            }
            let last = world.now + 20 * MILLISECOND;
            while let Some(next) = world.core.next_deadline() {
                prop_assert!(next <= last, "a timer beyond the longest wait");
                world.now = world.now.max(next);
                world.core.expire(world.now, &mut Batch::default());
                world.flush()?;
            }
        }
        prop_assert_eq!(world.core.output_len(), 0);
        for asked in &world.asked {
            prop_assert_eq!(asked.answers, usize::from(asked.answered));
        }
    }
}
