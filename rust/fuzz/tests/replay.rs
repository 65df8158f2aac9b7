//! The committed corpus through every target, without a fuzzer.

use std::fs;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn scanner() {
    replay("scanner", turnout_fuzz::scanner);
}

#[test]
fn framing() {
    replay("framing", turnout_fuzz::framing);
}

#[test]
fn connection() {
    replay("connection", turnout_fuzz::connection);
}

#[test]
fn events() {
    replay("events", turnout_fuzz::events);
}

#[test]
fn crossing() {
    replay("crossing", turnout_fuzz::crossing);
}

#[test]
fn http() {
    replay("http", turnout_fuzz::http);
}

#[test]
fn exchanges() {
    replay("exchanges", turnout_fuzz::exchanges);
}

/// Not only what was found before: many scripts made here, the same ones every time.
#[test]
fn made_scripts() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..3000 {
        let length = 2 + (next() % 200) as usize;
        let script: Vec<u8> = (0..length).map(|_| (next() >> 24) as u8).collect();
        turnout_fuzz::connection(&script);
        turnout_fuzz::framing(&script);
        turnout_fuzz::scanner(&script);
        turnout_fuzz::events(&script);
        turnout_fuzz::http(&script);
        turnout_fuzz::exchanges(&script);
        // A relay and all readers around it cost a hundred times as much.
        if round % 10 == 0 {
            turnout_fuzz::crossing(&script);
        }
    }
}
