//! The half of a client: requests out, responses in.

use http_net::{BodyFraming, ClientConn, ClientEvent, HttpError, Method, Progress, Request};

use super::errors::{refusal, write_error};
use super::{Phase, ResponseHead, library_limits};
use crate::{Reason, Refusal, SyntaxLimits, WriteError};

/// What came in next.
#[derive(Debug)]
pub enum ClientStep<'a> {
    /// A response of status 1xx before the response.
    Interim(ResponseHead<'a>),
    /// The response's head. [`End`](Self::End) follows behind its body, if it has one.
    Head(ResponseHead<'a>),
    /// Some bytes of the body.
    Body(&'a [u8]),
    /// The response is whole.
    End,
    /// Nothing more in what was fed.
    NeedInput,
    /// No request is open: send the next one.
    Idle,
    /// The input is refused: close.
    Refused(Refusal),
    /// The connection carries no more requests: close.
    Closed,
}

/// Writes the requests of one connection and reads their responses, one exchange after the other.
#[derive(Debug)]
pub struct ClientSyntax {
    conn: ClientConn,
    body_bytes: u64,
    /// What the body at hand may still bring.
    body_left: u64,
    /// The next step says so.
    refusing: Option<Refusal>,
    /// The input was refused.
    refused: bool,
}

impl ClientSyntax {
    /// Opens the syntax of one connection.
    pub fn new(limits: &SyntaxLimits) -> Self {
        let mut conn = ClientConn::with_limits(library_limits(limits));
        conn.set_report_informational(true);
        Self { conn, body_bytes: limits.body_bytes, body_left: 0, refusing: None, refused: false }
    }

    // ---- what goes out ----

    /// Appends a whole request. The fields must have one `host`; the length is written from the body, and the fields
    /// that frame a message are refused.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &[u8])],
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        self.send(method, target, fields, body, false, out)
    }

    /// Appends a whole request that is the last of this connection, and says so to the server.
    pub fn last_request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &[u8])],
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        self.send(method, target, fields, body, true, out)
    }

    /// Whether a request can be sent now: none is open, and the server sent nothing unasked.
    pub fn can_send(&self) -> bool {
        !self.refused && self.conn.can_send()
    }

    // ---- what comes in ----

    /// Takes bytes of the socket and says how many. Where they are fewer than all, take steps until
    /// [`NeedInput`](ClientStep::NeedInput) and feed the rest.
    #[must_use = "bytes beyond the returned count were not taken"]
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        if self.refused || self.conn.progress() == Progress::Closed {
            bytes.len()
        } else {
            self.conn.feed(bytes)
        }
    }

    /// Says that the server sends no more. It ends a body that runs until then; any other is refused as truncated, and
    /// a response that never began as [`Reason::NoResponse`].
    pub fn feed_eof(&mut self) {
        self.conn.feed_eof();
    }

    /// Says what comes next in what was fed.
    pub fn step(&mut self) -> ClientStep<'_> {
        if self.refused {
            return ClientStep::Closed;
        }
        if let Some(refusal) = self.refusing.take() {
            self.refused = true;
            return ClientStep::Refused(refusal);
        }
        let waiting = self.conn.progress() == Progress::AwaitingResponse;
        match self.conn.poll() {
            Ok(ClientEvent::Response(head)) => {
                self.body_left = self.body_bytes;
                if let Some(reason) = unread(&head) {
                    self.refused = true;
                    return ClientStep::Refused(Refusal { reason, status: None });
                }
                ClientStep::Head(ResponseHead(head))
            }
            Ok(ClientEvent::Informational(head)) => {
                if let Some(reason) = unread(&head) {
                    self.refused = true;
                    return ClientStep::Refused(Refusal { reason, status: None });
                }
                ClientStep::Interim(ResponseHead(head))
            }
            Ok(ClientEvent::Body(bytes)) => {
                let Some(left) = self.body_left.checked_sub(bytes.len() as u64) else {
                    self.refused = true;
                    return ClientStep::Refused(Refusal { reason: Reason::BodyTooLarge, status: None });
                };
                self.body_left = left;
                ClientStep::Body(bytes)
            }
            Ok(ClientEvent::ResponseEnd) => ClientStep::End,
            Ok(ClientEvent::NeedInput) => ClientStep::NeedInput,
            Ok(ClientEvent::Idle) => ClientStep::Idle,
            Ok(_) => ClientStep::Closed,
            Err(error) => {
                self.refused = true;
                let mut refusal = refusal(error);
                refusal.status = None;
                if waiting && error == HttpError::UnexpectedEof {
                    refusal.reason = Reason::NoResponse;
                }
                ClientStep::Refused(refusal)
            }
        }
    }

    /// The head of the response at hand, from its step until the step behind its end.
    pub fn head(&self) -> Option<ResponseHead<'_>> {
        self.conn.response().map(ResponseHead)
    }

    /// Lowers the limit of the body at hand, in bytes. Call it when the head has come, before the next step; a body
    /// that declares more is refused by that step.
    pub fn limit_body(&mut self, bytes: u64) {
        self.body_left = self.body_left.min(bytes);
        let Some(head) = self.conn.response() else { return };
        // The answer to HEAD declares a body that never comes.
        let comes = matches!(head.framing(), BodyFraming::Length(_));
        if comes && head.content_length().is_some_and(|length| length > self.body_left) {
            self.refusing = Some(Refusal { reason: Reason::BodyTooLarge, status: None });
        }
    }

    /// What the connection is doing.
    pub fn phase(&self) -> Phase {
        if self.refused { Phase::Closed } else { Phase::of(self.conn.progress()) }
    }

    /// Gives the buffers of an idle connection back, and says whether there were any. The next bytes make new ones.
    pub fn shrink(&mut self) -> bool {
        self.conn.shrink_idle()
    }

    // ---- inside ----

    fn send(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &[u8])],
        body: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        if self.refused {
            return Err(WriteError::State("the connection is closed"));
        }
        if Method::from_bytes(method.as_bytes()) == Method::Connect {
            return Err(WriteError::Target);
        }
        // The library would take the body by value: it is declared and written behind the head instead.
        let mut request = Request::new(method, target);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        if last {
            request = request.close();
        }
        if !body.is_empty() {
            request = request.content_length(body.len() as u64);
        }
        self.conn.send_request(&request, out).map_err(write_error)?;
        if !body.is_empty() {
            self.conn.send_body(body, out).map_err(write_error)?;
            self.conn.end_body(out).map_err(write_error)?;
        }
        Ok(())
    }
}

/// Why a response that the library reads is not taken.
fn unread(head: &http_net::ResponseHead<'_>) -> Option<Reason> {
    if !super::is_known_version(head.raw()) {
        return Some(Reason::Version);
    }
    let chunked = head.framing() == BodyFraming::Chunked;
    (chunked && !super::is_plainly_chunked(head.header_all("transfer-encoding"))).then_some(Reason::Coding)
}
