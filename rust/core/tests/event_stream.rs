//! Event streams: what is read is what WHATWG's HTML says, however the bytes arrive; what is written is read back.

use proptest::prelude::*;
use turnout_core::wire::envelope::check_value;
use turnout_core::wire::sse::{self, EventCutter, EventRefusal, Item};

use crate::event_model::{Read, cut, events, model};

const MOST: usize = 1 << 20;

/// What a stream says at once, which is also what it says byte by byte, and by the model.
fn read(stream: &[u8]) -> Vec<Read> {
    let read = cut(MOST, std::iter::once(stream));
    assert_eq!(read, cut(MOST, stream.chunks(1)), "byte by byte");
    assert_eq!(read, model(MOST, stream), "the model");
    read.0
}

fn event(id: &str, data: &str) -> Read {
    Read::Event { id: id.into(), name: "message".into(), data: data.into(), retry_ms: None }
}

#[test]
fn lines_end_with_cr_lf_or_both_and_with_nothing_else() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = format!("data: a{end}data: b{end}{end}data: c{end}{end}");
        assert_eq!(read(stream.as_bytes()), [event("", "a\nb"), event("", "c")]);
    }
    assert_eq!(read(b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r"), [event("", "a\nb\nc"), event("", "d")]);
    let other = "a\u{2028}b\u{2029}c\u{85}d\x0be\x0cf";
    assert_eq!(read(format!("data: {other}\n\n").as_bytes()), [event("", other)]);
}

#[test]
fn a_crlf_that_is_cut_between_two_reads_ends_one_line() {
    let stream = b"data: a\r\ndata: b\r\n\r\n".as_slice();
    for at in 0..=stream.len() {
        let (start, rest) = stream.split_at(at);
        let pieces = [start, b"", rest];
        assert_eq!(cut(MOST, pieces.into_iter()).0, [event("", "a\nb")], "cut at {at}");
    }
}

#[test]
fn an_event_that_ends_with_cr_is_there_at_once() {
    let mut cutter = EventCutter::new(MOST);
    let mut bytes = b"data: a\r\r".as_slice();
    assert!(cutter.next_item(&mut bytes).is_some());
    let mut bytes = b"\n".as_slice();
    assert_eq!(cutter.next_item(&mut bytes), None);
}

#[test]
fn a_character_that_is_cut_between_two_reads_is_whole() {
    assert_eq!(read("data: é漢😀\n\n".as_bytes()), [event("", "é漢😀")]);
}

#[test]
fn a_byte_order_mark_is_none_at_the_start_only() {
    assert_eq!(read(b"\xef\xbb\xbfdata: a\n\n"), [event("", "a")]);
    assert_eq!(read(b"\xef\xbb\xbf: comment\ndata: a\n\n"), [Read::Comment, event("", "a")]);
    assert_eq!(read(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n"), [], "a field of another name");
    assert_eq!(read(b"\xef\xbbdata: a\n\n"), [], "a field of another name");
    assert_eq!(read(b"data: a\n\n\xef\xbb\xbfdata: b\n\n"), [event("", "a")]);
}

#[test]
fn a_field_is_what_stands_before_its_first_colon() {
    assert_eq!(read(b"data:a\n\n"), [event("", "a")]);
    assert_eq!(read(b"data:  a: b\n\n"), [event("", " a: b")]);
    assert_eq!(read(b"data\n\n"), [event("", "")]);
    assert_eq!(read(b"data\ndata\n\n"), [event("", "\n")]);
    assert_eq!(read(b"Data: a\n data: b\ndata : c\nother: d\n\n"), []);
}

#[test]
fn an_event_has_a_name() {
    let stream = b"event: endpoint\ndata: a\n\nevent: x\n\nevent:\ndata: b\n\n";
    let named = Read::Event { id: String::new(), name: "endpoint".into(), data: "a".into(), retry_ms: None };
    assert_eq!(read(stream), [named, event("", "b")]);
}

#[test]
fn trh_23_an_event_has_an_id_or_the_one_before() {
    let stream = b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\n\ndata: d\n\nid\ndata: e\n\n";
    let said = [event("", "a"), event("1", "b"), event("1", "c"), event("2", "d"), event("", "e")];
    assert_eq!(read(stream), said);
    assert_eq!(read(b"id: 1\nid: a\0b\ndata: a\n\n"), [event("1", "a")], "an id with NUL is none");
    let (_, last) = cut(MOST, [b"id: 1\ndata: a\n\nid: 2\ndata: b\n".as_slice()].into_iter());
    assert_eq!(last, "1", "what did not end tells no id");
}

#[test]
fn a_client_knows_how_long_it_has_to_wait() {
    let mut cutter = EventCutter::new(MOST);
    let mut wait_after = |mut bytes: &[u8]| {
        while cutter.next_item(&mut bytes).is_some() {}
        cutter.retry_ms()
    };
    assert_eq!(wait_after(b"data: a\n\n"), None);
    assert_eq!(wait_after(b"retry: 500\n"), Some(500), "without an event");
    for other in ["retry: 1s\n", "retry:\n", "retry: -1\n", "retry: 1.5\n", "retry:  1\n", "retry: +1\n"] {
        assert_eq!(wait_after(other.as_bytes()), Some(500), "{other}");
    }
    assert_eq!(wait_after(b"retry:7\n\n"), Some(7));
    assert_eq!(wait_after(b"retry: 99999999999999999999999\n"), Some(u64::MAX));
}

#[test]
fn comments_say_nothing_and_break_nothing() {
    let stream = b":\n\n: keep-alive\n\ndata: a\n: between\ndata: b\n\n";
    assert_eq!(read(stream), [Read::Comment, Read::Comment, Read::Comment, event("", "a\nb")]);
    let long = [b"data: a\n:".as_slice(), &[b'x'; 1000], b"\n\n"].concat();
    assert_eq!(cut(10, long.chunks(7)).0, [Read::Comment, event("", "a")], "a comment has no limit");
    let mut cutter = EventCutter::new(10);
    for _ in 0..1000 {
        assert_eq!(cutter.next_item(&mut b":xxxxxxxxxxxxxxx".as_slice()), None);
    }
    assert!(cutter.held() < 100, "nor is it held");
}

#[test]
fn an_event_without_its_end_is_none() {
    assert_eq!(read(b"data: a\n\ndata: b\n"), [event("", "a")]);
    assert_eq!(read(b"data: a"), []);
    assert_eq!(read(b""), []);
}

#[test]
fn an_event_that_is_no_utf8_is_refused_by_itself() {
    for field in [&b"data: "[..], b"data: a\nevent: ", b"data: a\nid: "] {
        let stream = [b"id: 1\ndata: a\n\n", field, b"\xff\n\ndata: c\n\n"].concat();
        assert_eq!(read(&stream), [event("1", "a"), Read::InvalidUtf8, event("1", "c")]);
    }
    assert_eq!(read(b"id: 2\ndata: \xff\n\ndata: c\n\n"), [Read::InvalidUtf8, event("2", "c")]);
    assert_eq!(read(b"x: \xff\n: \xff\ndata: \xc3\ndata: \xa9\n\n"), [Read::Comment, Read::InvalidUtf8]);
}

#[test]
fn an_event_is_refused_beyond_max_event_bytes_as_soon_as_it_is() {
    let whole = |length: usize| format!("id: 1\ndata: {}\n\nid: 2\ndata: b\n\n", "a".repeat(length));
    let fitting = [event("1", &"a".repeat(9)), event("2", "b")];
    for step in [1, 3, 100] {
        assert_eq!(cut(20, whole(9).as_bytes().chunks(step)).0, fitting);
        for length in [10, 11, 1000] {
            assert_eq!(cut(20, whole(length).as_bytes().chunks(step)).0, [Read::TooLong, event("2", "b")]);
        }
    }
    let mut cutter = EventCutter::new(20);
    for _ in 0..5 {
        assert_eq!(cutter.next_item(&mut &b"data\n"[..]), None);
    }
    let refused = Some(Item::Refused(EventRefusal::TooLong));
    assert_eq!(cutter.next_item(&mut &b"d"[..]), refused, "whatever the lines have, and before they end");
    for _ in 0..1000 {
        assert_eq!(cutter.next_item(&mut &b"data: 0123456789"[..]), None);
    }
    assert!(cutter.held() < 300);
}

/// If each byte cost as much as all before it, this would take hours.
#[test]
fn a_large_event_may_arrive_byte_by_byte() {
    let large = "a".repeat(4 << 20);
    let lines = "data\n".repeat(100_000);
    let stream = format!("data: {large}\n\n{lines}\n");
    let (read, _) = cut(8 << 20, stream.as_bytes().chunks(1));
    assert!(read == [event("", &large), event("", &"\n".repeat(99_999))]);
}

#[test]
fn a_large_event_leaves_no_large_buffer() {
    let mut cutter = EventCutter::new(MOST);
    let large = format!("id: {0}\ndata: {0}\n\n", "a".repeat(100_000));
    assert!(cutter.next_item(&mut large.as_bytes()).is_some());
    assert!(cutter.held() > 200_000);
    assert!(cutter.next_item(&mut &b"id: 1\ndata: b\n\n"[..]).is_some());
    assert!(cutter.held() < 20_000, "{} bytes", cutter.held());
}

#[test]
fn what_is_written_is_these_bytes() {
    let mut out = Vec::new();
    sse::write_event(&mut out, None, b"{}");
    sse::write_event(&mut out, Some("s-1"), b"{\"a\":\r\n1}");
    sse::write_comment(&mut out);
    sse::write_retry(&mut out, 1500);
    let text = "data: {}\n\nid: s-1\ndata: {\"a\":  1}\n\n:\n\nretry: 1500\n\n";
    assert_eq!(std::str::from_utf8(&out).unwrap(), text);
}

#[test]
fn the_priming_event_has_an_id_and_empty_data() {
    for (retry_ms, text) in [(None, "id: s-0\ndata: \n\n"), (Some(10), "id: s-0\nretry: 10\ndata: \n\n")] {
        let mut out = Vec::new();
        sse::write_priming(&mut out, "s-0", retry_ms);
        assert_eq!(std::str::from_utf8(&out).unwrap(), text);
        let primed = Read::Event { id: "s-0".into(), name: "message".into(), data: String::new(), retry_ms };
        assert_eq!(read(&out), [primed]);
    }
}

#[test]
fn a_line_end_in_json_begins_no_field() {
    let mut out = Vec::new();
    sse::write_event(&mut out, None, b"{\"a\":\rid: evil\n\r\n,1}");
    let Read::Event { id, data, .. } = read(&out).remove(0) else { panic!() };
    assert_eq!((id.as_str(), data.as_str()), ("", "{\"a\": id: evil   ,1}"));
    let mut out = Vec::new();
    sse::write_event(&mut out, None, b"[1,\r\n2\r]\n");
    let Read::Event { data, .. } = read(&out).remove(0) else { panic!() };
    assert!(check_value(data.as_bytes()).is_ok());
}

#[test]
fn writing_an_event_takes_no_more_room_than_it_needs() {
    for (id, data) in [(None, &b"{}"[..]), (Some("s-12"), &[b'1'; 300])] {
        let mut out = Vec::new();
        sse::write_event(&mut out, id, data);
        let room = out.capacity();
        out.clear();
        sse::write_event(&mut out, id, data);
        assert_eq!(out.capacity(), room);
        assert!(room < out.len() + 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Made of what matters to the rules; and of anything.
    #[test]
    fn any_stream_in_any_split_reads_as_the_model_says(
        parts in proptest::collection::vec(prop_oneof![
            8 => proptest::sample::select(vec![
                &b"\n"[..], b"\r", b"\r\n", b"data", b"data:", b"data: ", b"id: ", b"event:", b"retry: ", b":", b" ",
                b"\xef\xbb\xbf", b"\xef", b"\xbb", b"1", b"a", b"\0", b"\xe2\x80\xa8", b"\xc3", b"\xa9", b"\n\n",
            ]).prop_map(<[u8]>::to_vec),
            1 => proptest::collection::vec(any::<u8>(), 0..6),
        ], 0..40),
        most in 1usize..60,
        cuts in proptest::collection::vec(0usize..100, 0..8),
    ) {
        let stream = parts.concat();
        let expected = model(most, &stream);
        let mut at: Vec<usize> = cuts.into_iter().filter(|at| *at <= stream.len()).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let pieces = at.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        prop_assert_eq!(&cut(most, pieces), &expected);
        prop_assert_eq!(&cut(most, stream.chunks(1)), &expected);
        events(&[&[3, most as u8 - 1], &stream[..]].concat());
    }

    #[test]
    fn what_is_written_is_read_back(
        written in proptest::collection::vec((proptest::option::of("[!-~]{1,20}"), "[^\r\n]{0,60}"), 0..10),
        step in 1usize..30,
    ) {
        let (mut out, mut last, mut said) = (Vec::new(), String::new(), Vec::new());
        for (id, data) in &written {
            sse::write_event(&mut out, id.as_deref(), data.as_bytes());
            sse::write_comment(&mut out);
            last = id.clone().unwrap_or(last);
            said.extend([event(&last, data), Read::Comment]);
        }
        prop_assert_eq!(cut(MOST, out.chunks(step)).0, said);
    }
}
