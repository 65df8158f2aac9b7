//! Who asks: a principal, or whoever has an address.

use pyo3::prelude::*;

/// A client, as far as it is known.
pub struct Client {
    /// Its name among all clients.
    pub key: Box<str>,
    /// Where it asks from, as the socket or a listed proxy says.
    pub address: Box<str>,
    /// The principal that its credentials are of; None where nobody is asked for any.
    pub principal: Option<Py<PyAny>>,
}

impl Client {
    /// Whoever has that address.
    pub fn at(address: &str) -> Self {
        Self { key: format!("@{address}").into(), address: address.into(), principal: None }
    }

    /// A principal, by a name that no other has.
    pub fn known(name: &str, address: &str, principal: Py<PyAny>) -> Self {
        Self { key: format!("={name}").into(), address: address.into(), principal: Some(principal) }
    }

    /// To whom handles are given: only they may use them. Those of an unknown client are good for whoever has them,
    /// since its address may change.
    pub fn owner(&self) -> &[u8] {
        if self.principal.is_some() { self.key.as_bytes() } else { b"" }
    }
}
