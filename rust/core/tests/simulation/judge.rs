//! What each end reads, judged line by line: whose it is, whether it may come now, and in what order.

use std::collections::HashMap;

use crate::world::{between, id_of};

/// What guesses carry in place of an owner: nobody is ever to read it.
pub const FORGED: &str = "forged";

/// A request as the one who asked sees it.
pub struct Asked {
    pub owner: String,
    pub id: String,
    pub token: Option<String>,
    pub is_listen: bool,
    /// Whether it became a task of 2025-11-25, whose progress goes on.
    pub is_task: bool,
    pub may_be_cancelled: bool,
    pub terminals: usize,
    pub progress: i64,
}

/// A request as the one who answers sees it.
pub struct Seen {
    /// Who asked; empty for the relay itself.
    pub owner: String,
    pub token: Option<String>,
    pub method: String,
    /// The task that it is about, and the one that its answer may make.
    pub about: Option<String>,
    pub wants_task: bool,
    pub state: Option<String>,
    pub cancelled: bool,
    pub answered: bool,
    pub progress: i64,
}

/// Either end asks and answers; which of it is allowed is the schedule's business.
#[derive(Default)]
pub struct Party {
    /// On whose behalf a client asks, as it stands in payloads.
    pub principal: String,
    pub asked: Vec<Asked>,
    /// Errors of the relay's own, by id: they do not say which of several requests under one id they answer.
    pub unowned: HashMap<String, usize>,
    pub seen: HashMap<String, Seen>,
    /// Request states, and tasks, that it was given.
    pub states: Vec<String>,
    pub tasks: Vec<String>,
    /// What it read that was another's (invariant 2).
    pub crossings: Vec<String>,
}

impl Party {
    /// Takes one line that came to an end, and gives the id of a request that came with it.
    pub fn hear(&mut self, line: &str, known: &[&str]) -> Option<String> {
        if line.contains(FORGED) {
            self.crossings.push(format!("a guess arrived: {line}"));
            return None;
        }
        // Servers say whose the task is that they tell of.
        let of = between(line, "\"of\":\"", &['"']);
        if of.is_some_and(|of| !self.principal.is_empty() && of != self.principal) {
            self.crossings.push(format!("another's task: {line}"));
        }
        if let Some(state) = between(line, "\"requestState\":\"", &['"'])
            && !self.principal.is_empty()
        {
            self.states.push(state.to_owned());
        }
        if let Some(task) = between(line, "\"taskId\":\"", &['"'])
            && line.contains("\"result\"")
        {
            self.tasks.push(task.to_owned());
        }
        if line.contains("notifications/cancelled") {
            self.hear_cancel(line);
        } else if line.contains("notifications/progress") {
            self.hear_progress(line);
        } else if line.contains("\"method\":\"notifications/") {
            // Of a task: judged above.
            assert!(of.is_some(), "a notification of nobody's: {line}");
        } else if line.contains("\"method\":") {
            return Some(self.hear_request(line));
        } else {
            self.hear_answer(line, known);
        }
        None
    }

    fn hear_cancel(&mut self, line: &str) {
        let id = between(line, "\"requestId\":", &[',', '}']).unwrap();
        if self.asked.iter().any(|asked| asked.is_listen && asked.id == id) {
            return;
        }
        let seen = self.seen.get_mut(id);
        let seen = seen.unwrap_or_else(|| panic!("invariant 3: a cancel without its request: {line}"));
        assert!(!std::mem::replace(&mut seen.cancelled, true), "invariant 3: cancelled twice: {line}");
    }

    fn hear_request(&mut self, line: &str) -> String {
        let id =
            between(line, "\"id\":", &[',', '}']).or_else(|| between(line, "\"id\" : ", &[' '])).unwrap();
        let id = id.trim().to_owned();
        let token = between(line, "\"progressToken\" : ", &[' ']).map(str::to_owned);
        assert!(token.as_ref().is_none_or(|token| *token == id), "the token is the id: {line}");
        let text = |before| between(line, before, &['"']).map(str::to_owned);
        let seen = Seen {
            owner: text("\"owner\":\"").unwrap_or_default(),
            token,
            method: text("\"method\":\"").unwrap(),
            about: text("\"taskId\":\"").or_else(|| text("\"taskIds\":[\"")),
            wants_task: line.contains("\"task\":{"),
            state: text("\"requestState\":\""),
            cancelled: false,
            answered: false,
            progress: 0,
        };
        assert!(self.seen.insert(id.clone(), seen).is_none(), "invariant 3: an id used twice: {line}");
        id
    }

    fn hear_progress(&mut self, line: &str) {
        let owner = between(line, "\"message\":\"", &['"']).unwrap();
        let token = between(line, "\"progressToken\":", &[',']).unwrap();
        let Some(asked) = self.asked.iter_mut().find(|asked| asked.owner == owner) else {
            return self.crossings.push(format!("another's progress: {line}"));
        };
        assert!(asked.terminals == 0 || asked.is_task, "progress after the terminal: {line}");
        assert_eq!(asked.token.as_deref(), Some(token), "invariant 5: the token's bytes");
        let progress = between(line, "\"progress\":", &[',']).unwrap().parse().unwrap();
        assert!(progress > asked.progress, "progress grows: {line}");
        asked.progress = progress;
    }

    fn hear_answer(&mut self, line: &str, known: &[&str]) {
        let id = id_of(line).unwrap();
        let Some(owner) = between(line, "\"owner\":\"", &['"']) else {
            // Nobody here cancels for others: the relay has reasons of its own, known ones, and no others.
            let reason = between(line, "\"reason\":\"", &['"']);
            let ends_listen = line.contains("subscriptionId");
            let is_known = ends_listen || reason.is_some_and(|reason| known.contains(&reason));
            assert!(is_known, "an answer of nobody's: {line}");
            let mut alike: Vec<_> = self.asked.iter_mut().filter(|asked| asked.id == id).collect();
            if let [asked] = &mut alike[..] {
                asked.terminals += 1;
            } else {
                *self.unowned.entry(id.to_owned()).or_default() += 1;
            }
            return;
        };
        let Some(asked) = self.asked.iter_mut().find(|asked| asked.owner == owner) else {
            return self.crossings.push(format!("another's answer: {line}"));
        };
        assert_eq!(asked.id, id, "invariant 5: the id's bytes");
        asked.terminals += 1;
        asked.is_task = line.contains("\"task\":{");
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
        self.seen.values().map(|seen| &*seen.owner).filter(|owner| !owner.is_empty())
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

/// What waited for a congested upstream came out fairly: cancels first, then one request of each principal in turn.
pub fn judge_turns(lines: &[String], principal_of: impl Fn(&str) -> String) {
    let is_request = |line: &String| line.contains("\"id\"") && line.contains("\"method\"");
    let first = lines.iter().position(is_request).unwrap_or(lines.len());
    let waited = &lines[first..];
    assert!(!waited.iter().any(|line| line.contains("notifications/cancelled")), "section 13: {lines:?}");
    // Answers to what the server asked wait in no queue.
    let requests = waited.iter().filter(|line| line.contains("\"method\""));
    let owners = requests.filter_map(|line| between(line, "\"owner\":\"", &['-']));
    let senders: Vec<String> = owners.map(principal_of).collect();
    let mut served = HashMap::<&String, usize>::new();
    for (at, sender) in senders.iter().enumerate() {
        let mine = *served.entry(sender).and_modify(|count| *count += 1).or_insert(1);
        for other in &senders[at + 1..] {
            let theirs = served.get(other).copied().unwrap_or(0);
            assert!(mine <= theirs + 1, "section 13: {other} waits while {sender} goes on: {senders:?}");
        }
    }
}
