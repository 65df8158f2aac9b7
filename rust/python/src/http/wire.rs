//! What reads heads and writes answers: a socket of ours, or the messages of an application server.

use turnout_core::http::request::Fields;
use turnout_http::Date;

/// The fields of an answer.
pub type AnswerFields<'a> = [(&'a str, &'a [u8])];

/// Reads heads and writes answers.
pub trait Wire: Send + 'static {
    /// The fields of the request at hand; none where there is no request.
    fn fields(&self) -> Option<Fields<'_>>;

    /// Whether all of its message comes in a moment, so that a refusal waits for it: some clients read no answer
    /// before they have written.
    fn is_short(&self) -> bool;

    /// Has a client go on that waits for leave to send its message.
    fn proceed(&mut self);

    /// Has the connection end with the answer.
    fn close_after(&mut self);

    /// Writes a whole answer; false where that cannot be written.
    fn respond(&mut self, status: u16, fields: &AnswerFields<'_>, body: &[u8], date: &Date) -> bool;

    /// Writes the head of a stream of events.
    fn begin(&mut self, fields: &AnswerFields<'_>, date: &Date) -> bool;

    /// Writes some of it.
    fn chunk(&mut self, data: &[u8]) -> bool;

    /// Writes its end.
    fn end(&mut self) -> bool;

    /// How many bytes are written and not taken.
    fn waiting(&self) -> usize;
}
