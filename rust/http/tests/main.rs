//! The syntax by cases of our own, by random cuts, and beside other readers.

mod beside;
mod client_exchanges;
mod differential;
mod hyper;
mod kit;
mod server_exchanges;
mod server_refusals;
mod tunnels;
