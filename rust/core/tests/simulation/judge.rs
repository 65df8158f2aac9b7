//! What each end reads, judged line by line: whose it is, whether it may come now, and in what order.

use std::collections::HashMap;

use crate::world::{between, id_of};

/// A request as the one who asked sees it.
pub struct Asked {
    pub owner: String,
    pub id: String,
    pub token: Option<String>,
    pub may_be_cancelled: bool,
    pub terminals: usize,
    pub progress: i64,
}

/// A request as the one who answers sees it.
pub struct Seen {
    pub owner: String,
    pub token: Option<String>,
    pub cancelled: bool,
    pub answered: bool,
    pub progress: i64,
}

/// Either end asks and answers; which of it is allowed is the schedule's business.
#[derive(Default)]
pub struct Party {
    pub asked: Vec<Asked>,
    /// Errors of the relay's own, by id: they do not say which of several requests under one id they answer.
    pub unowned: HashMap<String, usize>,
    pub seen: HashMap<String, Seen>,
}

impl Party {
    /// Takes one line that came to the end of number `end`.
    pub fn hear(&mut self, end: usize, line: &str, known: &[&str]) {
        if line.contains("\"method\":\"tools/call\"") {
            self.hear_request(line);
        } else if line.contains("notifications/cancelled") {
            let id = between(line, "\"requestId\":", &[',', '}']).unwrap();
            let seen = self.seen.get_mut(id);
            let seen = seen.unwrap_or_else(|| panic!("invariant 3: a cancel without its request: {line}"));
            assert!(!std::mem::replace(&mut seen.cancelled, true), "invariant 3: cancelled twice: {line}");
        } else if line.contains("notifications/progress") {
            self.hear_progress(end, line);
        } else {
            self.hear_answer(end, line, known);
        }
    }

    fn hear_request(&mut self, line: &str) {
        let id =
            between(line, "\"id\":", &[',', '}']).or_else(|| between(line, "\"id\" : ", &[' '])).unwrap();
        let id = id.trim().to_owned();
        let token = between(line, "\"progressToken\" : ", &[' ']).map(str::to_owned);
        assert!(token.as_ref().is_none_or(|token| *token == id), "the token is the id: {line}");
        let owner = between(line, "\"owner\":\"", &['"']).unwrap().to_owned();
        let seen = Seen { owner, token, cancelled: false, answered: false, progress: 0 };
        assert!(self.seen.insert(id, seen).is_none(), "invariant 3: an id used twice: {line}");
    }

    fn hear_progress(&mut self, end: usize, line: &str) {
        let owner = between(line, "\"message\":\"", &['"']).unwrap();
        let token = between(line, "\"progressToken\":", &[',']).unwrap();
        let asked = self.asked.iter_mut().find(|asked| asked.owner == owner);
        let asked = asked.unwrap_or_else(|| panic!("invariant 2: another's progress at {end}: {line}"));
        assert_eq!(asked.terminals, 0, "progress after the terminal: {line}");
        assert_eq!(asked.token.as_deref(), Some(token), "invariant 5: the token's bytes");
        let progress = between(line, "\"progress\":", &[',']).unwrap().parse().unwrap();
        assert!(progress > asked.progress, "progress grows: {line}");
        asked.progress = progress;
    }

    fn hear_answer(&mut self, end: usize, line: &str, known: &[&str]) {
        let id = id_of(line).unwrap();
        let Some(owner) = between(line, "\"owner\":\"", &['"']) else {
            // Nobody here cancels for others: the relay has reasons of its own, known ones, and no others.
            let reason = between(line, "\"reason\":\"", &['"']);
            assert!(reason.is_some_and(|reason| known.contains(&reason)), "an answer of nobody's: {line}");
            let mut alike: Vec<_> = self.asked.iter_mut().filter(|asked| asked.id == id).collect();
            if let [asked] = &mut alike[..] {
                asked.terminals += 1;
            } else {
                *self.unowned.entry(id.to_owned()).or_default() += 1;
            }
            return;
        };
        let asked = self.asked.iter_mut().find(|asked| asked.owner == owner);
        let asked = asked.unwrap_or_else(|| panic!("invariant 2: another's answer at {end}: {line}"));
        assert_eq!(asked.id, id, "invariant 5: the id's bytes");
        asked.terminals += 1;
    }

    /// The requests that this end has seen and neither answered nor lost, in order.
    pub fn open(&self) -> Vec<String> {
        let open = self.seen.iter().filter(|(_, seen)| !seen.answered && !seen.cancelled);
        let mut ids: Vec<String> = open.map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    }

    /// Who sent the requests that this end has seen.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.seen.values().map(|seen| &*seen.owner)
    }

    /// Every request that this end sent has its one terminal, unless it was cancelled or the end is gone.
    pub fn settle_accounts(&self, end: usize, alive: bool) {
        let mut answers = self.unowned.clone();
        let (mut least, mut most) = (HashMap::<&str, usize>::new(), HashMap::<&str, usize>::new());
        for asked in &self.asked {
            assert!(asked.terminals <= 1, "invariant 1: {} terminals for {}", asked.terminals, asked.owner);
            *answers.entry(asked.id.clone()).or_default() += asked.terminals;
            *most.entry(&asked.id).or_default() += 1;
            *least.entry(&asked.id).or_default() += usize::from(!asked.may_be_cancelled);
        }
        for (id, count) in answers {
            assert!(count <= most[&*id], "invariant 1: {count} terminals at {end} for {id}");
            let owed = if alive { least[&*id] } else { 0 };
            assert!(count >= owed, "invariant 1: {count} terminals at {end} for {id}, owed {owed}");
        }
    }
}

/// What waited for a congested upstream came out fairly: cancels first, then one request of each client in turn.
pub fn judge_turns(lines: &[String]) {
    let first = lines.iter().position(|line| line.contains("tools/call")).unwrap_or(lines.len());
    let waited = &lines[first..];
    assert!(!waited.iter().any(|line| line.contains("notifications/cancelled")), "section 13: {lines:?}");
    let senders: Vec<&str> = waited.iter().filter_map(|line| between(line, "\"owner\":\"", &['-'])).collect();
    let mut served = HashMap::<&str, usize>::new();
    for (at, sender) in senders.iter().enumerate() {
        let mine = *served.entry(sender).and_modify(|count| *count += 1).or_insert(1);
        for other in &senders[at + 1..] {
            let theirs = served.get(other).copied().unwrap_or(0);
            assert!(mine <= theirs + 1, "section 13: {other} waits while {sender} goes on: {senders:?}");
        }
    }
}
