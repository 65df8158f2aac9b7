//! Answers of HTTP's to what we post, as a client reads them: one message, a stream of events, or a refusal.
//!
//! The status decides what an answer is, and its media type how it is read; what a body says of another request than
//! the one that was posted is left to the connection, which counts it and ends none by it.

use crate::http::fields;
use crate::http::request::put_in_one_line;
use crate::wire::sse::{EventCutter, Item};

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A request that was posted.
    Request,
    /// A notification that was posted, or an answer.
    Message,
    /// A GET: a stream of messages.
    Stream,
    /// A DELETE.
    End,
}

/// What an answer was, when its body has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it was taken.
    Taken,
    /// The status is no success. Its body, the first [`MAX_EXPLANATION_BYTES`] of it.
    Refused(u16, Vec<u8>),
    /// A success that is no answer to what was asked: of another media type.
    Unread,
}

/// Why an answer is not read on: close its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message is longer than the limit.
    TooLong,
}

/// Most bytes that are read of what explains a refusal.
pub const MAX_EXPLANATION_BYTES: usize = 64 << 10;

#[derive(Debug)]
enum Form {
    /// No head came.
    Head,
    Message(Vec<u8>),
    Events(Box<EventCutter>),
    /// Nothing in it is looked at.
    Ignored,
    Refused(u16, Vec<u8>),
    Unread,
}

/// Reads one answer.
#[derive(Debug)]
pub struct AnswerReader {
    asked: Asked,
    max_message_bytes: usize,
    form: Form,
}

impl AnswerReader {
    /// Reads the answer to one of those, whose messages have up to `max_message_bytes` each.
    pub const fn new(asked: Asked, max_message_bytes: usize) -> Self {
        Self { asked, max_message_bytes, form: Form::Head }
    }

    /// Takes the head: the status, which is no 1xx, and the value of the first [`fields::CONTENT_TYPE`].
    pub fn head(&mut self, status: u16, content_type: Option<&[u8]>) {
        let is = |media_type| content_type.is_some_and(|value| fields::is_media_type(value, media_type));
        self.form = match self.asked {
            _ if !(200..300).contains(&status) => Form::Refused(status, Vec::new()),
            Asked::Request | Asked::Stream if is(fields::EVENT_STREAM) => {
                Form::Events(Box::new(EventCutter::new(self.max_message_bytes)))
            }
            Asked::Request if is(fields::JSON) => Form::Message(Vec::new()),
            Asked::Request | Asked::Stream => Form::Unread,
            Asked::Message | Asked::End => Form::Ignored,
        };
    }

    /// Whether a head came.
    pub const fn has_head(&self) -> bool {
        !matches!(self.form, Form::Head)
    }

    /// Whether the head is a success of the kind that was asked for.
    pub const fn is_taken(&self) -> bool {
        matches!(self.form, Form::Message(_) | Form::Events(_) | Form::Ignored)
    }

    /// Whether the rest of its body is of no use: close the connection.
    pub const fn is_enough(&self) -> bool {
        match &self.form {
            Form::Refused(_, body) => body.len() >= MAX_EXPLANATION_BYTES,
            Form::Unread => true,
            _ => false,
        }
    }

    /// Whether its status is no success.
    pub const fn is_refused(&self) -> bool {
        matches!(self.form, Form::Refused(..))
    }

    /// Takes bytes of the body, and appends the messages that are whole to `messages`, each one line.
    pub fn body(&mut self, mut bytes: &[u8], messages: &mut Vec<Vec<u8>>) -> Result<(), Fault> {
        match &mut self.form {
            Form::Message(message) => {
                if message.len() + bytes.len() > self.max_message_bytes {
                    return Err(Fault::TooLong);
                }
                message.extend_from_slice(bytes);
            }
            Form::Events(cutter) => {
                while let Some(item) = cutter.next_item(&mut bytes) {
                    match item {
                        // What has another name is none of the protocol's; without data it tells its id only.
                        Item::Event(event) if event.name == "message" && !event.data.is_empty() => {
                            messages.push(in_one_line(event.data.as_bytes()));
                        }
                        Item::Event(_) | Item::Comment => {}
                        Item::Refused(_) => return Err(Fault::TooLong),
                    }
                }
            }
            Form::Refused(_, body) => {
                let room = MAX_EXPLANATION_BYTES.saturating_sub(body.len()).min(bytes.len());
                body.extend_from_slice(&bytes[..room]);
            }
            Form::Head | Form::Ignored | Form::Unread => {}
        }
        Ok(())
    }

    /// Takes the end of the body; a message that is whole with it is appended to `messages`.
    pub fn end(&mut self, messages: &mut Vec<Vec<u8>>) -> Answer {
        match &mut self.form {
            Form::Message(message) => {
                if message.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    let mut message = std::mem::take(message);
                    put_in_one_line(&mut message);
                    messages.push(message);
                }
                Answer::Taken
            }
            Form::Refused(status, body) => Answer::Refused(*status, std::mem::take(body)),
            Form::Unread => Answer::Unread,
            Form::Head | Form::Events(_) | Form::Ignored => Answer::Taken,
        }
    }

    /// The id of the last event, after which its stream can be resumed; empty for none.
    pub fn last_event_id(&self) -> &str {
        if let Form::Events(cutter) = &self.form { cutter.last_event_id() } else { "" }
    }

    /// How long the stream asked to wait before it is resumed, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        if let Form::Events(cutter) = &self.form { cutter.retry_ms() } else { None }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        match &self.form {
            Form::Message(bytes) | Form::Refused(_, bytes) => bytes.capacity(),
            Form::Events(cutter) => cutter.held(),
            Form::Head | Form::Ignored | Form::Unread => 0,
        }
    }
}

fn in_one_line(data: &[u8]) -> Vec<u8> {
    let mut message = data.to_vec();
    put_in_one_line(&mut message);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(asked: Asked, status: u16, content_type: &str, parts: &[&str]) -> (Vec<String>, Answer) {
        let mut reader = AnswerReader::new(asked, 64);
        reader.head(status, Some(content_type.as_bytes()).filter(|value| !value.is_empty()));
        let mut messages = Vec::new();
        for part in parts {
            reader.body(part.as_bytes(), &mut messages).unwrap();
        }
        let answer = reader.end(&mut messages);
        (messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect(), answer)
    }

    #[test]
    fn both_forms_of_an_answer_are_read() {
        let json = read(Asked::Request, 200, "application/json; charset=utf-8", &["{\r\n\"id\"", ":1}"]);
        assert_eq!(json, (vec!["{  \"id\":1}".to_owned()], Answer::Taken));
        let events = ["data: {\"a\":\n", "data: 1}\n\ndata", ":{}\r\n\r\n:\n\n"];
        let events = read(Asked::Request, 200, "Text/Event-Stream", &events);
        assert_eq!(events, (vec!["{\"a\": 1}".to_owned(), "{}".to_owned()], Answer::Taken));
    }

    #[test]
    fn the_status_decides_and_the_body_explains() {
        let refused = read(Asked::Request, 404, "application/json", &["{\"id\":1}"]);
        assert_eq!(refused, (vec![], Answer::Refused(404, b"{\"id\":1}".to_vec())));
        assert_eq!(read(Asked::Message, 200, "application/json", &["null"]), (vec![], Answer::Taken));
        assert_eq!(read(Asked::Message, 204, "", &[]), (vec![], Answer::Taken));
        assert_eq!(read(Asked::Request, 200, "text/html", &["<p>"]), (vec![], Answer::Unread));
        assert_eq!(read(Asked::Stream, 200, "application/json", &["{}"]), (vec![], Answer::Unread));
        assert_eq!(read(Asked::End, 405, "", &[]), (vec![], Answer::Refused(405, vec![])));
    }

    #[test]
    fn events_of_other_names_and_without_data_are_no_messages() {
        let parts = ["id: 7\nretry: 9\ndata:\n\n", "event: ping\ndata: {}\n\n"];
        let mut reader = AnswerReader::new(Asked::Stream, 64);
        reader.head(200, Some(b"text/event-stream"));
        let mut messages = Vec::new();
        for part in parts {
            reader.body(part.as_bytes(), &mut messages).unwrap();
        }
        assert!(messages.is_empty());
        assert_eq!((reader.last_event_id(), reader.retry_ms()), ("7", Some(9)));
    }

    #[test]
    fn what_is_too_long_is_a_fault_and_an_explanation_is_cut() {
        for content_type in ["application/json", "text/event-stream"] {
            let mut reader = AnswerReader::new(Asked::Request, 64);
            reader.head(200, Some(content_type.as_bytes()));
            let long = [b"data: ".as_slice(), &[b'x'; 65], b"\n\n"].concat();
            assert_eq!(reader.body(&long, &mut Vec::new()), Err(Fault::TooLong));
        }
        let mut reader = AnswerReader::new(Asked::Request, 64);
        reader.head(500, None);
        for round in 0..3 {
            assert_eq!(reader.is_enough(), round == 2);
            reader.body(&vec![b'x'; MAX_EXPLANATION_BYTES / 2], &mut Vec::new()).unwrap();
        }
        assert_eq!(reader.end(&mut Vec::new()), Answer::Refused(500, vec![b'x'; MAX_EXPLANATION_BYTES]));
    }
}
