//! The half of a server: requests in, responses out.

use http_net::{
    BodyFraming, BodyPlan, HttpError, Method, OutgoingBody, Progress, ResponseHeadRef, ServerConn,
    ServerEvent, TargetForm,
};

use super::errors::{refusal, write_error};
use super::{Date, Phase, RequestHead, library_limits};
use crate::{Reason, Refusal, SyntaxLimits, WriteError};

/// What came in next.
#[derive(Debug)]
pub enum ServerStep<'a> {
    /// A request's head. [`End`](Self::End) follows behind its body, if it has one.
    Head(RequestHead<'a>),
    /// Some bytes of the body.
    Body(&'a [u8]),
    /// The request is whole. Its response may have begun.
    End,
    /// Nothing more in what was fed.
    NeedInput,
    /// Nothing more until the response is written to its end; step again then.
    Owed,
    /// The input is refused. [`ServerSyntax::refuse`] answers it where an answer is due; then close.
    Refused(Refusal),
    /// The connection is over: write what is left, then close.
    Closed,
}

/// Reads the requests of one connection and writes their responses, one exchange after the other.
///
/// Feed what the socket gave, then take steps until [`NeedInput`](ServerStep::NeedInput), [`Owed`](ServerStep::Owed)
/// or an end. That the client is gone is not for this type to say while a response is owed: what a client sent
/// ahead hides its end. The host's socket says it.
#[derive(Debug)]
pub struct ServerSyntax {
    conn: ServerConn,
    /// It has a buffer for what comes in.
    is_buffered: bool,
    ahead_bytes: usize,
    /// What the body at hand may still bring.
    body_left: u64,
    /// The request at hand is whole.
    whole: bool,
    /// The next step says so.
    refusing: Option<Refusal>,
    state: State,
    body_bytes: u64,
}

/// Memory that a connection begins to read with, in bytes: most requests fit, and it is kept until a request is
/// answered, however long that takes. What is longer makes it grow.
const FIRST_BYTES: usize = 1 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The input was refused; one answer may still be written.
    Refused,
    /// The response was cut off; nothing more is written.
    Cut,
}

impl ServerSyntax {
    /// Opens the syntax of one connection.
    pub fn new(limits: &SyntaxLimits) -> Self {
        Self {
            conn: ServerConn::with_limits(library_limits(limits)),
            is_buffered: false,
            ahead_bytes: limits.ahead_bytes.min(SyntaxLimits::AHEAD_MOST),
            body_left: 0,
            whole: false,
            refusing: None,
            state: State::Open,
            body_bytes: limits.body_bytes,
        }
    }

    // ---- what comes in ----

    /// Takes bytes of the socket and says how many. Where they are fewer than all, take steps until
    /// [`NeedInput`](ServerStep::NeedInput) and feed the rest.
    #[must_use = "bytes beyond the returned count were not taken"]
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        if self.state != State::Open || self.refusing.is_some() {
            return bytes.len();
        }
        if !self.is_buffered {
            self.is_buffered = true;
            let keeps_alive = self.conn.keep_alive();
            self.conn = ServerConn::with_buffer(Vec::with_capacity(FIRST_BYTES), *self.conn.limits());
            self.conn.set_keep_alive(keeps_alive);
        }
        if !self.owes() {
            return self.conn.feed(bytes);
        }
        if self.conn.remaining_input().len() + bytes.len() > self.ahead_bytes
            || self.conn.feed(bytes) < bytes.len()
        {
            self.refusing = Some(AHEAD);
        }
        bytes.len()
    }

    /// Says that the client sends no more. Between requests the connection is then closed, in the middle of one it
    /// is refused as truncated.
    pub fn feed_eof(&mut self) {
        self.conn.feed_eof();
    }

    /// Says what comes next in what was fed.
    pub fn step(&mut self) -> ServerStep<'_> {
        if self.state != State::Open {
            return ServerStep::Closed;
        }
        if self.refusing.is_none() && self.owes() && self.conn.remaining_input().len() > self.ahead_bytes {
            self.refusing = Some(AHEAD);
        }
        if let Some(refusal) = self.refusing.take() {
            self.state = State::Refused;
            return ServerStep::Refused(refusal);
        }
        let begun = self.conn.progress() == Progress::WritingBody;
        match self.conn.poll() {
            Ok(ServerEvent::Request(head)) => {
                self.whole = false;
                self.body_left = self.body_bytes;
                match unserved(&head) {
                    Some(refusal) => {
                        self.state = State::Refused;
                        ServerStep::Refused(refusal)
                    }
                    None => ServerStep::Head(RequestHead(head)),
                }
            }
            Ok(ServerEvent::Body(bytes)) => {
                let Some(left) = self.body_left.checked_sub(bytes.len() as u64) else {
                    self.state = State::Refused;
                    return ServerStep::Refused(due(refusal(HttpError::BodyTooLarge), begun));
                };
                self.body_left = left;
                ServerStep::Body(bytes)
            }
            Ok(ServerEvent::RequestEnd) => {
                self.whole = true;
                ServerStep::End
            }
            Ok(ServerEvent::NeedInput) => ServerStep::NeedInput,
            Ok(ServerEvent::AwaitingResponse) => ServerStep::Owed,
            Ok(_) => ServerStep::Closed,
            Err(error) => {
                self.state = State::Refused;
                ServerStep::Refused(due(refusal(error), begun))
            }
        }
    }

    /// The head of the request at hand, from its step until its response is written and the next step is taken.
    pub fn head(&self) -> Option<RequestHead<'_>> {
        self.conn.request().map(RequestHead)
    }

    /// Lowers the limit of the body at hand, in bytes. Call it when the head has come, before the next step; a body
    /// that declares more is refused by that step.
    pub fn limit_body(&mut self, bytes: u64) {
        self.body_left = self.body_left.min(bytes);
        let declared = self.conn.request().and_then(|head| head.content_length());
        if declared.is_some_and(|length| length > self.body_left) {
            self.refusing = Some(refusal(HttpError::BodyTooLarge));
        }
    }

    /// What the connection is doing.
    pub fn phase(&self) -> Phase {
        if self.state == State::Open { Phase::of(self.conn.progress()) } else { Phase::Closed }
    }

    /// Whether the connection can stay open behind the exchange at hand, as far as is known.
    pub fn keep_alive(&self) -> bool {
        self.state == State::Open && self.conn.keep_alive()
    }

    /// Gives the buffers of an idle connection back, and says whether there were any. The next bytes make new ones.
    ///
    /// While a response is owed or written the head of its request stays, and the memory with it.
    pub fn shrink(&mut self) -> bool {
        let has_shrunk = self.conn.shrink_idle();
        self.is_buffered &= !has_shrunk;
        has_shrunk
    }

    // ---- what goes out ----

    /// Appends `100 Continue`, if the client waits for it, and says whether it did.
    pub fn proceed(&mut self, out: &mut Vec<u8>) -> bool {
        self.head().is_some_and(|head| head.expects_continue()) && self.conn.send_continue(out).is_ok()
    }

    /// Appends a whole response. The length is written from the body, which is left out for `HEAD`; the fields that
    /// frame a message are refused. A response before its request is whole closes the connection.
    pub fn respond(
        &mut self,
        status: u16,
        fields: &[(&str, &[u8])],
        body: &[u8],
        date: Option<&Date>,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        let length =
            if body.is_empty() { OutgoingBody::Empty } else { OutgoingBody::Full(body.len() as u64) };
        if self.write_head(status, fields, length, date, out)? == BodyPlan::Raw {
            out.extend_from_slice(body);
        }
        Ok(())
    }

    /// Appends the head of a response whose body comes in parts.
    pub fn begin(
        &mut self,
        status: u16,
        fields: &[(&str, &[u8])],
        date: Option<&Date>,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        self.write_head(status, fields, OutgoingBody::Chunked, date, out).map(|_| ())
    }

    /// Appends one part of the body that was begun; nothing for an empty one.
    pub fn chunk(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), WriteError> {
        self.check_open()?;
        self.conn.send_body(data, out).map_err(write_error)
    }

    /// Appends the end of the body that was begun.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        self.check_open()?;
        self.conn.end_body(out).map_err(write_error)
    }

    /// Ends the connection in the middle of a response: no end of the body is written, so that the client knows that
    /// it was cut off. Close the socket.
    pub fn cut(&mut self) {
        self.state = State::Cut;
    }

    /// Lets the response at hand, or the next, be the last of this connection.
    pub fn close_after(&mut self) {
        self.conn.set_keep_alive(false);
    }

    /// Appends the answer to a refusal, if one is due, and says whether it did. The connection is to be closed.
    pub fn refuse(&mut self, refusal: Refusal, date: Option<&Date>, out: &mut Vec<u8>) -> bool {
        self.conn.set_keep_alive(false);
        let Some(status) = refusal.status else { return false };
        let text: (&str, &[u8]) = ("content-type", b"text/plain; charset=utf-8");
        self.respond(status, &[text], refusal.reason.text().as_bytes(), date, out).is_ok()
    }

    // ---- inside ----

    fn write_head(
        &mut self,
        status: u16,
        fields: &[(&str, &[u8])],
        body: OutgoingBody,
        date: Option<&Date>,
        out: &mut Vec<u8>,
    ) -> Result<BodyPlan, WriteError> {
        self.check_open()?;
        let head = ResponseHeadRef::new(status, fields, body);
        self.conn.write_head(&head, date.map(|date| date.0.current()), out).map_err(write_error)
    }

    fn check_open(&self) -> Result<(), WriteError> {
        if self.state == State::Cut { Err(WriteError::State("the response was cut off")) } else { Ok(()) }
    }

    /// The request is whole and its response is not.
    fn owes(&self) -> bool {
        self.whole && Phase::of(self.conn.progress()) == Phase::Answering
    }
}

const AHEAD: Refusal = Refusal { reason: Reason::ReadAhead, status: None };

/// A refusal, without its answer where a response has begun: it would stand in the middle of that.
fn due(refusal: Refusal, begun: bool) -> Refusal {
    if begun { Refusal { status: None, ..refusal } } else { refusal }
}

/// What the syntax allows and no server of ours serves.
fn unserved(head: &http_net::RequestHead<'_>) -> Option<Refusal> {
    let refuse = |reason, status| Some(Refusal { reason, status: Some(status) });
    if !super::is_known_version(head.raw()) {
        return refuse(Reason::Version, 505);
    }
    if head.method() == Method::Connect {
        return refuse(Reason::Target, 501);
    }
    // A list with nothing in it, or an empty line of the same name, is the one coding for some readers and none for others.
    if head.framing() == BodyFraming::Chunked
        && !super::is_plainly_chunked(head.header_all("transfer-encoding"))
    {
        return refuse(Reason::Coding, 400);
    }
    if head.has_unknown_expectation() {
        return refuse(Reason::Expectation, 417);
    }
    // Whoever checks the field and whoever follows the target must see one host.
    if head.target_form() == TargetForm::Absolute {
        let named = head.host().unwrap_or_default();
        let field = head.header("host").unwrap_or_default();
        if !named.as_bytes().eq_ignore_ascii_case(field) {
            return refuse(Reason::Host, 400);
        }
    }
    None
}
