//! The syntax by cases of our own, by random cuts, and beside other readers.

mod client_exchanges;
mod kit;
mod server_exchanges;
mod server_refusals;
