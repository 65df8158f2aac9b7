//! Event streams (`text/event-stream`): events are written, and cut out of bytes, by the rules of WHATWG's HTML.
//!
//! What is written is one line of JSON an event. What is read is whatever a peer writes: lines end with CR, LF or CRLF,
//! fields come in any order, data may have several lines, and the bytes arrive in any split. Text is checked for UTF-8
//! when an event is whole, so that no split can break a character. Nothing is kept twice, and no byte is looked at
//! again when more come: the work is linear however small the reads are.

use std::fmt;

use memchr::{memchr, memchr2};

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Most bytes of buffers that are kept for the next event.
const KEPT: usize = 16 << 10;

/// Appends an event with `data`, which is JSON.
///
/// Line ends in it, which are blanks between tokens there, are written as blanks: in an event each would begin a field.
///
/// # Panics
///
/// In debug builds, where `id` has a CR, an LF or a NUL: an id is ours.
pub fn write_event(out: &mut Vec<u8>, id: Option<&str>, data: &[u8]) {
    const FIXED: usize = b"id: \ndata: \n\n".len();
    out.reserve(FIXED + id.map_or(0, str::len) + data.len());
    if let Some(id) = id {
        write_id(out, id);
    }
    out.extend_from_slice(b"data: ");
    let mut rest = data;
    while let Some(at) = memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
}

/// Appends the event that lets a client resume a stream which had no other yet: its id, how long to wait before that in
/// milliseconds, and empty data.
///
/// # Panics
///
/// As [`write_event`].
pub fn write_priming(out: &mut Vec<u8>, id: &str, retry_ms: Option<u64>) {
    write_id(out, id);
    if let Some(retry_ms) = retry_ms {
        write_retry_field(out, retry_ms);
    }
    out.extend_from_slice(b"data: \n\n");
}

/// Appends how long a client has to wait before it connects again, in milliseconds; no event.
pub fn write_retry(out: &mut Vec<u8>, retry_ms: u64) {
    write_retry_field(out, retry_ms);
    out.push(b'\n');
}

/// Appends a comment, which keeps an idle stream open and says nothing.
pub fn write_comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

fn write_id(out: &mut Vec<u8>, id: &str) {
    debug_assert!(!id.contains(['\r', '\n', '\0']), "an id of an event is one line");
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(id.as_bytes());
    out.push(b'\n');
}

fn write_retry_field(out: &mut Vec<u8>, retry_ms: u64) {
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(itoa::Buffer::new().format(retry_ms).as_bytes());
    out.push(b'\n');
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last id that the stream told, with this event or before; empty for none.
    pub id: &'a str,
    /// Its name; `message` where it has none.
    pub name: &'a str,
    /// Its lines of data, joined by LF.
    pub data: &'a str,
    /// How long the stream asked to wait before it is connected again, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// Why an event was refused; the stream goes on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventRefusal {
    /// Its fields have more bytes than the limit allows.
    TooLong,
    /// Its text is not UTF-8.
    InvalidUtf8,
}

impl fmt::Display for EventRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the event is longer than max_event_bytes",
            Self::InvalidUtf8 => "the event is not UTF-8",
        })
    }
}

impl std::error::Error for EventRefusal {}

/// What was found in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event.
    Event(Event<'a>),
    /// A comment: the peer is there, and says nothing.
    Comment,
    /// An event that was refused.
    Refused(EventRefusal),
}

/// What a line brought.
enum Step {
    /// A field, or nothing.
    More,
    Comment,
    /// A blank line after data.
    Whole,
}

/// What came of an event's fields.
#[derive(Debug, Default)]
struct Fields {
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    id: Vec<u8>,
    has_id: bool,
}

/// Cuts a stream into events.
#[derive(Debug)]
pub struct EventCutter {
    max_event_bytes: usize,
    /// How many bytes of a byte order mark came, of which only the stream's first is none of its text.
    bom: usize,
    /// The last line ended with a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The start of a line whose end did not come yet. One byte where the rest of it is not needed.
    line: Vec<u8>,
    /// Bytes of the event's lines, line ends and comments aside.
    bytes: usize,
    /// The event was refused before its end.
    refused: bool,
    /// The fields are those of an event that was given out.
    given: bool,
    fields: Fields,
    last_id: String,
    retry_ms: Option<u64>,
}

impl EventCutter {
    /// Cuts a stream from its start; `max_event_bytes` is the most bytes of one event's lines, without line ends.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            bom: 0,
            after_cr: false,
            line: Vec::new(),
            bytes: 0,
            refused: false,
            given: false,
            fields: Fields::default(),
            last_id: String::new(),
            retry_ms: None,
        }
    }

    /// The last id that the stream told, from which it can be resumed; empty for none.
    pub fn last_event_id(&self) -> &str {
        &self.last_id
    }

    /// How long the stream asked to wait before it is connected again, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        let Fields { name, data, id, .. } = &self.fields;
        self.line.capacity() + name.capacity() + data.capacity() + id.capacity() + self.last_id.capacity()
    }

    /// The next item; takes what it consists of from `bytes`, which are the stream's next. None where they were all
    /// taken. What is not whole when the stream ends is no event.
    pub fn next_item<'a>(&'a mut self, bytes: &mut &[u8]) -> Option<Item<'a>> {
        if std::mem::take(&mut self.given) {
            self.forget();
        }
        self.skip_bom(bytes);
        loop {
            if !bytes.is_empty() && std::mem::take(&mut self.after_cr) {
                *bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let end = memchr2(b'\r', b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.is_too_much(part) {
                *bytes = &bytes[part.len()..];
                self.refuse(part);
                return Some(Item::Refused(EventRefusal::TooLong));
            }
            let Some(end) = end else {
                self.hold(part);
                *bytes = &[];
                return None;
            };
            self.after_cr = bytes[end] == b'\r';
            *bytes = &bytes[end + 1..];
            match self.end_line(part) {
                Step::More => {}
                Step::Comment => return Some(Item::Comment),
                Step::Whole => return Some(self.give()),
            }
        }
    }

    fn skip_bom(&mut self, bytes: &mut &[u8]) {
        while self.bom < BOM.len() {
            let Some((first, rest)) = bytes.split_first() else { return };
            if *first == BOM[self.bom] {
                *bytes = rest;
                self.bom += 1;
            } else {
                self.line.extend_from_slice(&BOM[..self.bom]);
                self.bom = BOM.len();
            }
        }
    }

    /// Whether nothing of the line that `part` goes on with is needed but its first byte.
    fn is_dropped(&self, part: &[u8]) -> bool {
        self.refused || self.line.first().or(part.first()) == Some(&b':')
    }

    fn is_too_much(&self, part: &[u8]) -> bool {
        !self.is_dropped(part) && self.bytes + self.line.len() + part.len() > self.max_event_bytes
    }

    /// Refuses the event; `part` is the rest of what came of its line.
    fn refuse(&mut self, part: &[u8]) {
        self.refused = true;
        if self.line.is_empty() {
            self.line.extend_from_slice(&part[..1]);
        }
        self.line.truncate(1);
        self.fields.data = Vec::new();
        self.fields.has_data = false;
    }

    /// Keeps a part of a line whose end did not come.
    fn hold(&mut self, part: &[u8]) {
        if !self.is_dropped(part) {
            self.line.extend_from_slice(part);
        } else if self.line.is_empty() {
            self.line.extend_from_slice(&part[..part.len().min(1)]);
        }
    }

    /// The line that was held, with its last part.
    fn end_line(&mut self, part: &[u8]) -> Step {
        if self.is_dropped(part) {
            let is_comment = self.line.first().or(part.first()) == Some(&b':');
            let is_blank = self.line.is_empty() && part.is_empty();
            self.line.clear();
            if is_blank {
                self.take_id();
                self.forget();
            }
            return if is_comment { Step::Comment } else { Step::More };
        }
        if self.line.is_empty() {
            return self.read_line(part);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(part);
        let step = self.read_line(&line);
        line.clear();
        self.line = line;
        step
    }

    fn read_line(&mut self, line: &[u8]) -> Step {
        self.bytes += line.len();
        if line.is_empty() {
            if self.fields.has_data {
                return Step::Whole;
            }
            self.take_id();
            self.forget();
            return Step::More;
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let fields = &mut self.fields;
        match field {
            b"data" => {
                if fields.has_data {
                    fields.data.push(b'\n');
                }
                fields.has_data = true;
                fields.data.extend_from_slice(value);
            }
            b"event" => replace(&mut fields.name, value),
            b"id" if !value.contains(&0) => {
                replace(&mut fields.id, value);
                fields.has_id = true;
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let digit =
                    |all: u64, digit: &u8| all.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
                self.retry_ms = Some(value.iter().fold(0, digit));
            }
            _ => {}
        }
        Step::More
    }

    /// Takes the event's id for the stream's; false where it is not UTF-8.
    fn take_id(&mut self) -> bool {
        if !std::mem::take(&mut self.fields.has_id) {
            return true;
        }
        let Ok(id) = simdutf8::basic::from_utf8(&self.fields.id) else { return false };
        if self.last_id.capacity() > KEPT {
            self.last_id = String::new();
        }
        self.last_id.clear();
        self.last_id.push_str(id);
        true
    }

    fn give(&mut self) -> Item<'_> {
        self.given = true;
        let is_id_text = self.take_id();
        let (name, data) =
            (simdutf8::basic::from_utf8(&self.fields.name), simdutf8::basic::from_utf8(&self.fields.data));
        let (Ok(name), Ok(data), true) = (name, data, is_id_text) else {
            return Item::Refused(EventRefusal::InvalidUtf8);
        };
        let name = if name.is_empty() { "message" } else { name };
        Item::Event(Event { id: &self.last_id, name, data, retry_ms: self.retry_ms })
    }

    /// Forgets the event, to begin the next one.
    fn forget(&mut self) {
        self.bytes = 0;
        self.refused = false;
        let Fields { name, data, has_data, id, .. } = &mut self.fields;
        *has_data = false;
        for buffer in [&mut self.line, name, data, id] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
            buffer.clear();
        }
    }
}

fn replace(buffer: &mut Vec<u8>, value: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(value);
}
