//! What an event stream says, read the plain and slow way: all of it at once, line by line; and the comparison of the
//! cutter with that.

use turnout_core::wire::sse::{EventCutter, Item};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// An item, with texts of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Event { id: String, name: String, data: String, retry_ms: Option<u64> },
    Comment,
    TooLong,
    InvalidUtf8,
}

/// What the whole of `stream` says, and the last id that it tells.
pub fn model(max_event_bytes: usize, stream: &[u8]) -> (Vec<Read>, String) {
    let mut read = Vec::new();
    let (mut last_id, mut retry_ms) = (String::new(), None);
    let (mut size, mut refused) = (0, false);
    let (mut name, mut data, mut id) = (Vec::new(), Vec::<Vec<u8>>::new(), None);
    // What may become one, and ends before it does, is nothing yet.
    let stream = if BOM.starts_with(stream) { b"" } else { stream.strip_prefix(BOM).unwrap_or(stream) };
    for line in lines(stream) {
        let (line, whole) = line;
        if line.first() == Some(&b':') {
            if whole {
                read.push(Read::Comment);
            }
            continue;
        }
        if !refused && size + line.len() > max_event_bytes {
            refused = true;
            read.push(Read::TooLong);
        }
        if !whole {
            break;
        }
        if line.is_empty() {
            let id_told = id.take().map(String::from_utf8);
            if let Some(Ok(id)) = &id_told {
                last_id.clone_from(id);
            }
            if !refused && !data.is_empty() {
                let texts = (String::from_utf8(name), String::from_utf8(data.join(&b'\n')));
                read.push(match (texts, id_told) {
                    ((Ok(name), Ok(data)), None | Some(Ok(_))) => Read::Event {
                        id: last_id.clone(),
                        name: if name.is_empty() { "message".into() } else { name },
                        data,
                        retry_ms,
                    },
                    _ => Read::InvalidUtf8,
                });
            }
            (size, refused, name, data) = (0, false, Vec::new(), Vec::new());
            continue;
        }
        if refused {
            continue;
        }
        size += line.len();
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let field = parts.next().unwrap();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match field {
            b"data" => data.push(value),
            b"event" => name = value,
            b"id" if !value.contains(&0) => id = Some(value),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                retry_ms = Some(String::from_utf8(value).unwrap().parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }
    (read, last_id)
}

/// Every line without its end, and whether it has one.
fn lines(stream: &[u8]) -> Vec<(&[u8], bool)> {
    let (mut all, mut start, mut at) = (Vec::new(), 0, 0);
    while at < stream.len() {
        let length = match &stream[at..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        if length > 0 {
            all.push((&stream[start..at], true));
            start = at + length;
        }
        at += length.max(1);
    }
    all.push((&stream[start..], false));
    all
}

/// What the cutter says of a stream that arrives in these pieces.
pub fn cut<'a>(max_event_bytes: usize, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Read>, String) {
    let mut cutter = EventCutter::new(max_event_bytes);
    let mut read = Vec::new();
    for mut piece in pieces {
        while let Some(item) = cutter.next_item(&mut piece) {
            read.push(match item {
                Item::Event(event) => Read::Event {
                    id: event.id.into(),
                    name: event.name.into(),
                    data: event.data.into(),
                    retry_ms: event.retry_ms,
                },
                Item::Comment => Read::Comment,
                Item::Refused(turnout_core::wire::sse::EventRefusal::TooLong) => Read::TooLong,
                Item::Refused(turnout_core::wire::sse::EventRefusal::InvalidUtf8) => Read::InvalidUtf8,
            });
        }
        assert!(piece.is_empty());
    }
    (read, cutter.last_event_id().into())
}

/// The first byte says how the rest is cut, the second how long an event may be.
#[allow(dead_code)] // of the fuzz target
pub fn events(data: &[u8]) {
    let [step, longest, stream @ ..] = data else { return };
    let most = usize::from(*longest) + 1;
    let expected = model(most, stream);
    for step in [1, usize::from(*step).max(1), stream.len().max(1)] {
        assert_eq!(cut(most, stream.chunks(step)), expected, "in pieces of {step}");
    }
}
