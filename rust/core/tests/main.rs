//! The core's tests from outside, in one program: it is linked once.

#![cfg(not(loom))]

mod connection_model;
mod delayed_answers;
mod dying_streams;
mod end_of_input;
mod event_model;
mod event_stream;
mod every_reader;
mod fields;
mod flights;
mod flights_model;
mod framing_splits;
mod nested;
mod reader;
mod records;
mod relay_caching;
mod relay_crossing;
mod relay_detaching;
mod relay_drain;
mod relay_ending;
mod relay_eras;
mod relay_fairness;
mod relay_guesses;
mod relay_limits;
mod relay_notifications;
mod relay_progress;
mod relay_queueing;
mod relay_races;
mod relay_renewed;
mod relay_reverse;
mod relay_rounds;
mod relay_routes;
mod relay_simulation;
mod relay_streams;
mod relay_suspended;
mod relay_threads;
mod replay;
mod scanner_differential;
mod scanner_oracle;
mod scanner_rules;
mod simulation;
mod streams;
mod threads;
mod world;
mod zoo;
