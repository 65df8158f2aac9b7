//! What servers keep for one principal and another may guess: tasks, request states, listens; and guesses of ids and
//! tokens. Servers know for whom they made what, and say so in every answer: what is read by anybody else crossed.

use std::collections::{HashMap, HashSet};

use super::Simulation;
use super::judge::FORGED;

/// Ids that servers give out which do not care whether they did before.
const REPEATED: [&str; 4] = ["T0", "T1", "T2", "T3"];

/// What the servers of a schedule made, and for whom.
#[derive(Default)]
pub struct Made {
    /// Whether servers give out ids again, to whomever.
    repeats: bool,
    /// Every task id there is, for whoever guesses.
    pub ids: Vec<String>,
    /// Whom each place ever gave a task of that id.
    given: HashMap<(usize, String), HashSet<String>>,
    /// For whom each server made the task of that id last, and each place.
    of_server: HashMap<(usize, String), String>,
    of_place: HashMap<(usize, String), String>,
    /// For whom each upstream made a state: connections of a pool are of one upstream, and its principal may meet any.
    states: HashMap<(usize, String), String>,
    serial: usize,
}

impl Made {
    pub fn new(repeats: bool) -> Self {
        Self { repeats, ..Self::default() }
    }
}

impl Simulation {
    /// The principal that an owner asks on behalf of.
    pub fn principal_of(&self, owner: &str) -> String {
        let end = owner.split('-').next().and_then(|end| end.parse::<usize>().ok());
        end.map_or(String::new(), |end| self.parties[end].principal.clone())
    }

    /// What a client asks for instead of a tool's result: about a task, or to hear of one; method and params.
    pub fn ask_about_task(&mut self, end: usize) -> (&'static str, String) {
        let (own, all) = (&self.parties[end].tasks, &self.made.ids);
        let id = match self.dice.roll(6) {
            0..=2 if !own.is_empty() => self.dice.of(own).clone(),
            3 | 4 if !all.is_empty() => self.dice.of(all).clone(),
            _ => (*self.dice.of(&REPEATED)).to_owned(),
        };
        match self.dice.roll(if self.is_modern() { 5 } else { 3 }) {
            0 => ("tasks/get", format!(r#","taskId":"{id}""#)),
            1 => ("tasks/cancel", format!(r#","taskId":"{id}""#)),
            2 if !self.is_modern() => ("tasks/result", format!(r#","taskId":"{id}""#)),
            2 => ("tasks/update", format!(r#","taskId":"{id}""#)),
            _ => ("subscriptions/listen", format!(r#","notifications":{{"taskIds":["{id}"]}}"#)),
        }
    }

    /// When all is quiet every client names what was made, for it and for others.
    pub fn name_things(&mut self) {
        for end in self.clients.clone() {
            if !self.world.ends[end].alive {
                continue;
            }
            for _ in 0..2 {
                let (method, more) = self.ask_about_task(end);
                self.ask_for(end, method, &more);
            }
            if let Some(state) = self.pick_state(end) {
                let name = *self.dice.of(&["a", "b"]);
                self.ask_for(end, "tools/call", &format!(r#","name":"{name}","requestState":"{state}""#));
            }
        }
    }

    /// A state that a client comes back with: one of its own, another's, or one that it knows from a server.
    pub fn pick_state(&mut self, end: usize) -> Option<String> {
        let mut states: Vec<&String> = match self.dice.roll(4) {
            0 | 1 => self.parties[end].states.iter().collect(),
            2 => self.clients.iter().flat_map(|client| &self.parties[*client].states).collect(),
            _ => self.made.states.keys().map(|(_, state)| state).collect(),
        };
        states.sort();
        (!states.is_empty()).then(|| (*self.dice.of(&states)).clone())
    }

    /// Judges a request that came to the server of a place that principals share: what it names was given to them.
    pub fn judge_request(&mut self, end: usize, slot: usize, id: &str) {
        let seen = &self.parties[end].seen[id];
        if self.slots[slot].is_exclusive || seen.owner.is_empty() {
            return;
        }
        let principal = self.principal_of(&seen.owner);
        let mut crossings = Vec::new();
        if let Some(task) = &seen.about {
            let given = self.made.given.get(&(slot, task.clone()));
            if !given.is_some_and(|given| given.contains(&principal)) {
                crossings.push(format!("{principal} asks about {task}, which it was never given"));
            }
            self.reached += 1;
        }
        if let Some(state) = &seen.state {
            let upstream = self.slots[slot].position;
            if self.made.states.get(&(upstream, state.clone())) != Some(&principal) {
                crossings.push(format!("{principal} comes back with {state}"));
            }
            self.reached += 1;
        }
        self.parties[end].crossings.append(&mut crossings);
    }

    /// What a server answers, where it makes something for whoever asked, or tells of it: members of its result.
    pub fn make(&mut self, end: usize, slot: usize, id: &str) -> Option<String> {
        let seen = &self.parties[end].seen[id];
        let (principal, about) = (self.principal_of(&seen.owner), seen.about.clone());
        let (is_call, wants_task) = (seen.method == "tools/call", seen.wants_task);
        if seen.method.starts_with("tasks/") {
            let task = about?;
            let key = (end, task.clone());
            let of = self.made.of_server.get(&key).or_else(|| self.made.of_place.get(&(slot, task.clone())));
            let of =
                of.filter(|_| !principal.is_empty()).map_or(String::new(), |of| format!(r#","of":"{of}""#));
            return Some(format!(r#""taskId":"{task}","status":"working"{of}"#));
        }
        // Nobody reads any more what a connection says that is gone.
        if !is_call || principal.is_empty() || !self.world.ends[end].alive {
            return None;
        }
        self.made.serial += 1;
        let serial = self.made.serial;
        if self.is_modern() && self.dice.one_in(3) {
            let state = format!("state {slot} {serial}");
            self.made.states.insert((self.slots[slot].position, state.clone()), principal);
            return Some(format!(r#""resultType":"input_required","requestState":"{state}""#));
        }
        let may_make = wants_task || (self.is_modern() && self.dice.one_in(3));
        if !may_make {
            return None;
        }
        let task =
            if self.made.repeats { (*self.dice.of(&REPEATED)).to_owned() } else { format!("t{serial}") };
        self.made.ids.push(task.clone());
        self.made.given.entry((slot, task.clone())).or_default().insert(principal.clone());
        self.made.of_server.insert((end, task.clone()), principal.clone());
        // A connection that left its place may give out an id yet that the one there has given out by now: to whoever
        // comes next the id means the newer one's task.
        let of_place = self.made.of_place.entry((slot, task.clone()));
        if self.servers[slot] == end {
            of_place.insert_entry(principal);
        } else {
            of_place.or_insert(principal);
        }
        Some(if self.is_modern() {
            format!(r#""resultType":"task","taskId":"{task}""#)
        } else {
            format!(r#""task":{{"taskId":"{task}","status":"working"}}"#)
        })
    }

    /// A server tells of one of its tasks: unasked, or on whatever listen there is.
    pub fn tell(&mut self, end: usize) {
        let mut tasks: Vec<(String, String)> = Vec::new();
        for ((server, task), of) in &self.made.of_server {
            if *server == end {
                tasks.push((task.clone(), of.clone()));
            }
        }
        tasks.sort();
        if tasks.is_empty() {
            return;
        }
        let (task, of) = self.dice.of(&tasks).clone();
        let params = format!(r#""taskId":"{task}","status":"working","of":"{of}""#);
        let line = if self.is_modern() {
            let mut listens: Vec<&String> = Vec::new();
            for (id, seen) in &self.parties[end].seen {
                if seen.method == "subscriptions/listen" {
                    listens.push(id);
                }
            }
            listens.sort();
            if listens.is_empty() {
                return;
            }
            let listen = (*self.dice.of(&listens)).clone();
            let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{listen}}}"#);
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{{{params},{meta}}}}}"#)
        } else {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{{{params}}}}}"#)
        };
        self.world.write(end, &line);
    }

    /// Every server says of its tasks that they are over.
    pub fn end_tasks(&mut self) {
        for ((server, task), of) in &self.made.of_server {
            let method = if self.is_modern() { "notifications/tasks" } else { "notifications/tasks/status" };
            let params = format!(r#""taskId":"{task}","status":"completed","of":"{of}""#);
            let line = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#);
            self.world.write(*server, &line);
        }
    }

    /// An end names what it was never told of: an id, a token, a listen of somebody else's.
    pub fn guess(&mut self, end: usize, is_client: bool) {
        // What was asked of a client of a shared server is nothing: there, every number is somebody else's.
        let asks_nothing = is_client && self.parties[end].seen.is_empty() && !self.has_own_server(end);
        let number = if asks_nothing { 1 + self.dice.roll(40) } else { 100_000 + self.dice.roll(40) };
        let guess = match self.dice.roll(4) {
            0 => number.to_string(),
            1 => format!("\"{number}\""),
            2 => format!("{}.0", 1 + self.dice.roll(20)),
            _ => "\"nobody's\"".to_owned(),
        };
        let line = match self.dice.roll(4) {
            0 => format!(r#"{{"jsonrpc":"2.0","id":{guess},"result":{{"owner":"{FORGED}"}}}}"#),
            1 => format!(
                r#"{{"jsonrpc":"2.0","id":{guess},"error":{{"code":1,"message":"{FORGED}","data":{{"owner":"{FORGED}"}}}}}}"#
            ),
            2 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{guess},"progress":1000,"message":"{FORGED}"}}}}"#
            ),
            // What it asked itself, it may cancel: that is no guess.
            _ if self.parties[end].asked.iter().any(|asked| asked.id == guess) => return,
            _ => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{guess},"reason":"{FORGED}"}}}}"#
            ),
        };
        self.world.write(end, &line);
    }
}
