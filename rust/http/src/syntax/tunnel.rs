//! A tunnel through a proxy: it is asked for, and its answer read, before the connection belongs to others.

use http_net::{ClientConn, ClientEvent, Request};

use super::errors::{refusal, write_error};
use super::library_limits;
use crate::{Reason, Refusal, SyntaxLimits, WriteError};

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelStep {
    /// Nothing yet.
    NeedInput,
    /// It stands, and the next byte is ours to send.
    Open,
    /// The proxy does not let us through, and says so by this status: close.
    Denied(u16),
    /// The input is refused: close.
    Refused(Refusal),
}

/// Asks a proxy for a tunnel, once for a connection.
#[derive(Debug)]
pub struct TunnelSyntax {
    conn: ClientConn,
}

impl TunnelSyntax {
    /// Opens the syntax of one connection.
    pub fn new(limits: &SyntaxLimits) -> Self {
        Self { conn: ClientConn::with_limits(library_limits(limits)) }
    }

    /// Appends the request for a tunnel to `authority`, a host and its port.
    pub fn request(
        &mut self,
        authority: &str,
        fields: &[(&str, &[u8])],
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        let mut request = Request::new("CONNECT", authority).header("host", authority);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        self.conn.send_request(&request, out).map_err(write_error)
    }

    /// Takes bytes of the socket, and says what became of the tunnel by them. What stands behind the head of the answer
    /// is refused: whoever is at the other end waits for us.
    pub fn feed(&mut self, bytes: &[u8]) -> TunnelStep {
        let taken = self.conn.feed(bytes);
        let step = self.step();
        if matches!(step, TunnelStep::NeedInput | TunnelStep::Open) && taken < bytes.len() {
            return unexpected();
        }
        step
    }

    fn step(&mut self) -> TunnelStep {
        loop {
            match self.conn.poll() {
                Ok(ClientEvent::Response(head)) if !(200..300).contains(&head.status()) => {
                    return TunnelStep::Denied(head.status());
                }
                Ok(ClientEvent::Response(_) | ClientEvent::Informational(_)) => {}
                Ok(ClientEvent::NeedInput) => return TunnelStep::NeedInput,
                Ok(ClientEvent::Upgraded) => break,
                Ok(_) => return unexpected(),
                Err(error) => return TunnelStep::Refused(Refusal { status: None, ..refusal(error) }),
            }
        }
        if self.conn.remaining_input().is_empty() { TunnelStep::Open } else { unexpected() }
    }
}

const fn unexpected() -> TunnelStep {
    TunnelStep::Refused(Refusal { reason: Reason::Unexpected, status: None })
}
