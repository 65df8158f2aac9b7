//! What becomes of answers: messages for the connection, and what the host is told of.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::codes::INTERNAL_ERROR;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::http::answer::{AnswerReader, Asked};
use turnout_core::http::mirror;
use turnout_core::rules::method;
use turnout_core::sync::lock;
use turnout_core::wire::encode;

use crate::asyncio::callback::Run;
use crate::asyncio::raised;
use crate::connection::Connection;
use crate::http::calling::pool::Pool;
use crate::http::calling::post::{HttpPost, Post};

/// What is taken from the head of an answer.
pub struct Heading {
    pub session: Option<Vec<u8>>,
}

/// An answer whose status is no success.
pub struct Refusal {
    pub status: u16,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Pool {
    /// Hands over the messages that came in answer to a request.
    pub fn receive(self: &Arc<Self>, py: Python<'_>, post: &Post, messages: &[Vec<u8>]) {
        for message in messages {
            if post.is_aside {
                self.tell(py, intern!(py, "answered_aside"), (PyBytes::new(py, message),));
                continue;
            }
            // One that has none any more takes back what another one said.
            let is_noted = || mirror::has_annotations(message) || self.heads.has_params();
            if &*post.method == "tools/list" && is_noted() {
                let usable = self.ask(py, intern!(py, "tools_listed"), (PyBytes::new(py, message),));
                let usable = usable.as_ref().and_then(|usable| usable.cast::<PyBytes>().ok());
                self.hand_over(py, post.number, usable.map_or(message, |usable| usable.as_bytes()));
                continue;
            }
            self.hand_over(py, post.number, message);
        }
    }

    pub fn hand_over(&self, py: Python<'_>, stream: StreamId, message: &[u8]) {
        if let Err(error) = Connection::receive_posted(self.connection.bind(py), stream, message) {
            raised::report(py, None, error, None);
        }
    }

    /// Takes note of the head of an answer that is a success.
    pub fn note_head(&self, py: Python<'_>, post: &Post, heading: Heading) {
        if post.opens_session() {
            self.heads.set_session(heading.session);
        }
        if post.asked == Asked::Stream {
            self.tell(py, intern!(py, "stream_opened"), (post.number,));
        }
    }

    /// The socket of a stream carries it no more.
    pub fn forget(&self, post: &Post) {
        if post.number != 0 || post.asked == Asked::Stream {
            lock(&self.sockets).forget(post.number);
        }
    }

    /// Takes note that an answer has ended as HTTP says.
    pub fn end(
        self: &Arc<Self>,
        py: Python<'_>,
        post: &Arc<Post>,
        reader: &AnswerReader,
        refusal: Option<Refusal>,
    ) {
        self.note_opening(py, post, refusal.is_none());
        if let Some(Refusal { status, fields, body }) = refusal {
            if post.is_aside || post.number == 0 || self.awaits(post.number) {
                let fields: Vec<_> =
                    fields.into_iter().map(|(name, value)| (name, PyBytes::new(py, &value))).collect();
                let post = HttpPost(Arc::clone(post));
                let arguments = (post, status, fields, PyBytes::new(py, &body));
                self.tell(py, intern!(py, "refused"), arguments);
            }
            return;
        }
        match post.asked {
            Asked::Request | Asked::Stream if !post.is_aside => {
                self.end_stream(py, post, reader, "the server's answer ended without the response");
            }
            Asked::Request if post.is_aside => {
                let why = "the server's answer ended without the response";
                self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), why));
            }
            Asked::End => self.tell(py, intern!(py, "session_ended"), ()),
            _ => {}
        }
    }

    /// Takes note that an answer broke off. Where it had not begun, on a socket that had rested, its server may not have
    /// seen the request: what changes nothing there is sent once more.
    pub fn break_off(
        self: &Arc<Self>,
        py: Python<'_>,
        post: &Arc<Post>,
        reader: &AnswerReader,
        (why, is_reused): (&str, bool),
    ) {
        self.forget(post);
        if is_reused && !reader.has_head() && post.changes_nothing() && post.note_repeated() == 1 {
            return self.dispatch(py, post);
        }
        self.note_opening(py, post, false);
        if matches!(post.asked, Asked::Request | Asked::Stream) && !post.is_aside {
            self.end_stream(py, post, reader, why);
        } else {
            self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), why));
        }
    }

    /// Ends a stream: its request is answered, or resumed where the revision has that, or lost.
    fn end_stream(&self, py: Python<'_>, post: &Arc<Post>, reader: &AnswerReader, why: &str) {
        if post.number != 0 && !self.awaits(post.number) {
            return;
        }
        let id = Some(reader.last_event_id()).filter(|id| !id.is_empty()).unwrap_or(&post.last_event_id);
        let is_legacy = !post.revision.is_modern();
        if post.number == 0 || is_legacy && !id.is_empty() {
            let arguments = (post.number, id, reader.retry_ms());
            return self.tell(py, intern!(py, "stream_ended"), arguments);
        }
        self.lose(py, post, why);
    }

    /// Lets what waits for the session go, when the last message of its opening is taken.
    pub fn note_opening(self: &Arc<Self>, py: Python<'_>, post: &Post, is_taken: bool) {
        if *post.method != *method::INITIALIZED || post.asked != Asked::Message {
            return;
        }
        if !post.is_aside {
            self.let_go(py);
        }
        self.tell(py, intern!(py, "session_opened"), (is_taken, post.is_aside));
    }

    /// Answers a request of ours with an error of HTTP's; what needs no answer is told of.
    pub fn fail(self: &Arc<Self>, py: Python<'_>, post: &Arc<Post>, message: &str, data: Option<&[u8]>) {
        self.forget(post);
        self.note_opening(py, post, false);
        if post.asked != Asked::Request || post.is_aside {
            return self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), message));
        }
        let mut frame = Vec::new();
        encode::error(&mut frame, &post.id, INTERNAL_ERROR, message, data.unwrap_or_default());
        frame.pop();
        self.hand_over(py, post.number, &frame);
    }

    /// Ends a request of ours without an answer; what needs none is told of.
    pub fn lose(&self, py: Python<'_>, post: &Arc<Post>, why: &str) {
        if post.number == 0 || post.is_aside {
            return self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), why));
        }
        let (driver, number) = (self.driver(), post.number);
        let now = driver.now();
        driver.run_core(py, Run::Inline, |core, events| core.lose_call(now, number, why.as_bytes(), events));
    }
}
