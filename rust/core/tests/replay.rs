//! Resumption: what is sent again is what followed, in order, once; and what is kept stays within its limits.

use proptest::prelude::*;
use turnout_core::http::limits::HttpLimits;
use turnout_core::http::replay::{EVENT_COST, EventId, Gone, Replay, Stream};

const MINUTE: u64 = 60_000_000_000;

fn replay() -> Replay {
    Replay::new(HttpLimits::default())
}

fn id(stream: u64, position: u64) -> EventId {
    EventId { stream, position }
}

/// The events after one, as texts; and whether the stream is at its end.
fn after(replay: &mut Replay, after: EventId, now: u64) -> Result<(Vec<(EventId, String)>, bool), Gone> {
    let resumed = replay.resume(after, now)?;
    let has_ended = resumed.has_ended();
    Ok((resumed.map(|(id, data)| (id, String::from_utf8(data.into()).unwrap())).collect(), has_ended))
}

fn texts(replay: &mut Replay, from: EventId) -> Vec<String> {
    after(replay, from, 0).unwrap().0.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn trh_24_no_two_streams_of_a_session_have_an_id_in_common() {
    let mut replay = replay();
    let (mut one, mut two) = (replay.open(0), replay.open(0));
    let mut ids = vec![one.last_id(), two.last_id()];
    for _ in 0..3 {
        ids.push(replay.push(&mut one, b"{}", 0));
        ids.push(replay.push(&mut two, b"{}", 0));
    }
    ids.push(replay.finish(one, b"{}", 0));
    replay.forget(1);
    ids.push(replay.open(0).last_id());
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let mut unique = texts.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), texts.len(), "{texts:?}");
}

#[test]
fn trh_25_an_event_id_names_its_stream() {
    assert_eq!(id(3, 14).to_string(), "3-14");
    assert_eq!(EventId::parse("3-14"), Some(id(3, 14)));
    assert_eq!(EventId::parse("0-0"), Some(id(0, 0)));
    assert_eq!(EventId::parse(&id(u64::MAX, u64::MAX).to_string()), Some(id(u64::MAX, u64::MAX)));
    for other in [
        "",
        "-",
        "3",
        "3-",
        "-14",
        "3-14-1",
        "03-14",
        "3-014",
        "+3-14",
        "3-+14",
        "3--14",
        " 3-14",
        "3-14 ",
        "3_14",
        "a-1",
        "3-1\u{0661}",
        "00-1",
        "18446744073709551616-0",
        "3-14\n",
    ] {
        assert_eq!(EventId::parse(other), None, "{other}");
    }
}

#[test]
fn what_followed_an_event_is_sent_again_in_order_and_once() {
    let mut replay = replay();
    let mut stream = replay.open(0);
    for text in ["a", "b", "c"] {
        replay.push(&mut stream, text.as_bytes(), 0);
    }
    assert_eq!(texts(&mut replay, id(1, 0)), ["a", "b", "c"], "after the begin");
    let (events, has_ended) = after(&mut replay, id(1, 1), 0).unwrap();
    assert_eq!(events, [(id(1, 2), "b".into()), (id(1, 3), "c".into())]);
    assert!(!has_ended);
    assert_eq!(texts(&mut replay, id(1, 3)), [""; 0]);
    assert_eq!(after(&mut replay, id(1, 4), 0), Err(Gone::NeverSent));
    assert_eq!(after(&mut replay, id(2, 0), 0), Err(Gone::Stream));
    replay.finish(stream, b"d", 0);
    assert_eq!(after(&mut replay, id(1, 3), 0), Ok((vec![(id(1, 4), "d".into())], true)));
}

#[test]
fn trh_28_messages_of_another_stream_are_not_sent_again() {
    let mut replay = replay();
    let (mut one, mut two) = (replay.open(0), replay.open(0));
    for turn in 0..6 {
        let (stream, text) = if turn % 2 == 0 { (&mut one, "one") } else { (&mut two, "two") };
        replay.push(stream, text.as_bytes(), 0);
    }
    assert_eq!(texts(&mut replay, id(1, 1)), ["one", "one"]);
    assert_eq!(texts(&mut replay, id(2, 0)), ["two", "two", "two"]);
}

#[test]
fn a_stream_that_had_no_event_yet_is_resumed() {
    let mut replay = replay();
    let mut stream = replay.open(0);
    assert_eq!(after(&mut replay, stream.last_id(), 0), Ok((vec![], false)));
    replay.push(&mut stream, b"a", 60 * MINUTE);
    assert_eq!(after(&mut replay, id(1, 0), 60 * MINUTE).unwrap().0.len(), 1, "however long it had none");
}

#[test]
fn max_kept_events_is_the_most_events_of_a_stream() {
    let mut replay = Replay::new(HttpLimits { max_kept_events: 3, ..HttpLimits::default() });
    let mut stream = replay.open(0);
    for text in ["a", "b", "c"] {
        replay.push(&mut stream, text.as_bytes(), 0);
    }
    assert_eq!(texts(&mut replay, id(1, 0)), ["a", "b", "c"]);
    replay.push(&mut stream, b"d", 0);
    assert_eq!(after(&mut replay, id(1, 0), 0), Err(Gone::Events));
    assert_eq!(texts(&mut replay, id(1, 1)), ["b", "c", "d"]);
}

#[test]
fn max_kept_bytes_is_the_most_bytes_of_a_stream_but_for_its_last_message() {
    let max_kept_bytes = 2 * (EVENT_COST + 10);
    let mut replay = Replay::new(HttpLimits { max_kept_bytes, ..HttpLimits::default() });
    let mut stream = replay.open(0);
    replay.push(&mut stream, &[b'a'; 10], 0);
    replay.push(&mut stream, &[b'b'; 10], 0);
    assert_eq!(replay.bytes(), max_kept_bytes);
    assert!(after(&mut replay, id(1, 0), 0).is_ok());
    replay.push(&mut stream, b"", 0);
    assert_eq!(after(&mut replay, id(1, 0), 0), Err(Gone::Events));
    replay.push(&mut stream, &vec![b'c'; max_kept_bytes], 0);
    assert_eq!((replay.bytes(), after(&mut replay, id(1, 3), 0)), (0, Err(Gone::Events)));
    assert_eq!(texts(&mut replay, id(1, 4)), [""; 0], "who has it misses nothing");
    replay.finish(stream, &vec![b'd'; 10 * max_kept_bytes], 0);
    assert_eq!(texts(&mut replay, id(1, 4)), ["d".repeat(10 * max_kept_bytes)]);
}

#[test]
fn max_session_kept_bytes_is_the_most_bytes_of_all_streams() {
    let max_session_kept_bytes = 3 * (EVENT_COST + 1);
    let mut replay = Replay::new(HttpLimits { max_session_kept_bytes, ..HttpLimits::default() });
    let (mut one, two, mut three) = (replay.open(0), replay.open(0), replay.open(0));
    replay.push(&mut one, b"a", 0);
    replay.finish(two, b"b", 0);
    replay.push(&mut three, b"c", 0);
    assert!((1..=3).all(|stream| after(&mut replay, id(stream, 0), 0).unwrap().0.len() == 1));
    replay.push(&mut three, b"d", 0);
    assert_eq!(after(&mut replay, id(1, 0), 0), Err(Gone::Events), "the oldest goes first");
    replay.push(&mut one, b"e", 0);
    replay.push(&mut one, b"f", 0);
    assert_eq!(texts(&mut replay, id(2, 0)), ["b"], "a last message that was not written stays");
    let four = replay.open(0);
    replay.finish(four, &vec![b'g'; max_session_kept_bytes], 0);
    assert_eq!(after(&mut replay, id(4, 0), 0), Err(Gone::Stream), "one message does not take all the room");
    assert_eq!(texts(&mut replay, id(1, 2)), ["f"]);
    for _ in 0..3 {
        let stream = replay.open(0);
        replay.finish(stream, b"h", 0);
    }
    assert_eq!(after(&mut replay, id(2, 0), 0), Err(Gone::Stream), "unless there is nothing else");
}

#[test]
fn max_kept_ms_is_how_long_events_are_kept() {
    let mut replay = Replay::new(HttpLimits { max_kept_ms: 60_000, ..HttpLimits::default() });
    let mut stream = replay.open(0);
    replay.push(&mut stream, b"a", 1);
    assert_eq!(replay.next_expiry(), Some(MINUTE + 1));
    assert_eq!(after(&mut replay, id(1, 0), MINUTE).unwrap().0.len(), 1);
    assert_eq!(after(&mut replay, id(1, 0), MINUTE + 1), Err(Gone::Events));
    assert_eq!((replay.next_expiry(), replay.bytes()), (None, 0));
    assert_eq!(after(&mut replay, id(1, 1), 9 * MINUTE), Ok((vec![], false)), "its stream is still open");
}

#[test]
fn the_last_message_is_kept_until_written_and_a_while_after() {
    let mut replay = Replay::new(HttpLimits { max_kept_ms: 60_000, ..HttpLimits::default() });
    let mut stream = replay.open(0);
    replay.push(&mut stream, b"a", 0);
    let last = replay.finish(stream, b"b", 0);
    assert_eq!(after(&mut replay, id(1, 1), 60 * MINUTE), Ok((vec![(last, "b".into())], true)));
    replay.last_written(1, 60 * MINUTE);
    assert_eq!(replay.next_expiry(), Some(61 * MINUTE));
    assert_eq!(after(&mut replay, id(1, 1), 61 * MINUTE - 1).unwrap().0.len(), 1);
    replay.last_written(1, 61 * MINUTE - 1);
    replay.expire(61 * MINUTE);
    assert_eq!((replay.streams(), replay.bytes()), (0, 0), "written is written once");
    assert_eq!(after(&mut replay, id(1, 1), 61 * MINUTE), Err(Gone::Stream));
}

#[test]
fn a_stream_that_ends_without_a_last_message_keeps_what_it_has_for_its_time() {
    let mut replay = replay();
    let (mut one, two) = (replay.open(0), replay.open(0));
    replay.push(&mut one, b"a", 0);
    replay.end(one, 0);
    replay.end(two, 0);
    assert_eq!(after(&mut replay, id(1, 0), 0).unwrap(), (vec![(id(1, 1), "a".into())], true));
    assert_eq!(after(&mut replay, id(2, 0), 0), Err(Gone::Stream));
    replay.expire(5 * MINUTE);
    assert_eq!(replay.streams(), 0);
}

#[test]
fn max_session_streams_is_the_most_streams_that_can_be_resumed() {
    let mut replay = Replay::new(HttpLimits { max_session_streams: 2, ..HttpLimits::default() });
    let (mut standing, post) = (replay.open(0), replay.open(0));
    replay.push(&mut standing, b"a", 0);
    replay.finish(post, b"b", 0);
    replay.last_written(2, 0);
    assert_eq!(replay.streams(), 2);
    let third = replay.open(0);
    assert_eq!(after(&mut replay, id(2, 0), 0), Err(Gone::Stream), "the one at its end goes first");
    assert_eq!(texts(&mut replay, id(1, 0)), ["a"]);
    let _fourth = replay.open(0);
    assert_eq!(after(&mut replay, id(1, 0), 0), Err(Gone::Stream), "or else the first");
    assert_eq!(replay.push(&mut standing, b"c", 0), id(1, 2), "its sender goes on counting");
    assert_eq!((replay.streams(), replay.bytes()), (2, 0));
    replay.finish(standing, b"d", 0);
    replay.end(third, 0);
    assert_eq!(replay.streams(), 1);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut replay = replay();
    let mut stream = replay.open(10 * MINUTE);
    replay.push(&mut stream, b"a", 10 * MINUTE);
    replay.push(&mut stream, b"b", 0);
    assert_eq!(after(&mut replay, id(1, 1), 14 * MINUTE).unwrap().0.len(), 1);
}

// ---- a plain model ----

struct Event {
    id: EventId,
    order: u64,
    at: u64,
    data: Vec<u8>,
    is_unwritten_last: bool,
}

/// What follows an event, and whether its stream is at its end.
type Found = (Vec<(EventId, Vec<u8>)>, bool);

/// All that is kept in one list, and everything found by looking through it.
struct Model {
    limits: HttpLimits,
    events: Vec<Event>,
    /// Number, events sent, at its end, with a last message that was not written.
    streams: Vec<(u64, u64, bool, bool)>,
    opened: u64,
    order: u64,
}

impl Model {
    fn size<'a>(events: impl Iterator<Item = &'a Event>) -> usize {
        events.map(|event| event.data.len() + EVENT_COST).sum()
    }

    fn tidy(&mut self) {
        let events = &self.events;
        self.streams
            .retain(|(number, _, ended, _)| !ended || events.iter().any(|event| event.id.stream == *number));
        let streams = &self.streams;
        self.events.retain(|event| streams.iter().any(|stream| stream.0 == event.id.stream));
    }

    fn expire(&mut self, now: u64) {
        let longest = self.limits.max_kept_ms as u64 * 1_000_000;
        self.events.retain(|event| event.is_unwritten_last || event.at + longest > now);
        self.tidy();
    }

    fn open(&mut self, now: u64) {
        self.expire(now);
        if self.streams.len() == self.limits.max_session_streams {
            let at =
                self.streams.iter().position(|(_, _, ended, unwritten)| *ended && !unwritten).unwrap_or(0);
            self.streams.remove(at);
            self.tidy();
        }
        self.opened += 1;
        self.streams.push((self.opened, 0, false, false));
    }

    fn keep(&mut self, id: EventId, data: &[u8], now: u64, is_last: bool) {
        self.expire(now);
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.0 == id.stream) else { return };
        *stream = (id.stream, id.position, is_last, is_last);
        self.order += 1;
        if data.len() + EVENT_COST > self.limits.max_session_kept_bytes {
            self.events.retain(|event| event.id.stream != id.stream);
            return self.tidy();
        }
        self.events.push(Event {
            id,
            order: self.order,
            at: now,
            data: data.into(),
            is_unwritten_last: is_last,
        });
        loop {
            let of_it = || self.events.iter().filter(|event| event.id.stream == id.stream);
            let too_many = of_it().count() > self.limits.max_kept_events;
            if !too_many && Self::size(of_it()) <= self.limits.max_kept_bytes {
                break;
            }
            let oldest = of_it().filter(|event| !event.is_unwritten_last).map(|event| event.order).min();
            let Some(oldest) = oldest else { break };
            self.events.retain(|event| event.order != oldest);
        }
        while Self::size(self.events.iter()) > self.limits.max_session_kept_bytes {
            let oldest =
                self.events.iter().filter(|event| !event.is_unwritten_last).map(|event| event.order).min();
            if let Some(oldest) = oldest {
                self.events.retain(|event| event.order != oldest);
            } else {
                let first = self.events.iter().map(|event| event.id.stream).min().unwrap();
                self.events.retain(|event| event.id.stream != first);
            }
            self.tidy();
        }
    }

    fn written(&mut self, number: u64, now: u64) {
        self.expire(now);
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.0 == number && stream.3) else {
            return;
        };
        stream.3 = false;
        self.order += 1;
        let last = self.events.iter_mut().find(|event| event.id.stream == number && event.is_unwritten_last);
        if let Some(last) = last {
            (last.order, last.at, last.is_unwritten_last) = (self.order, now, false);
        }
    }

    fn resume(&self, after: EventId) -> Result<Found, Gone> {
        let stream = self.streams.iter().find(|stream| stream.0 == after.stream).ok_or(Gone::Stream)?;
        if after.position > stream.1 {
            return Err(Gone::NeverSent);
        }
        let of_it = self.events.iter().filter(|event| event.id.stream == after.stream);
        let found: Vec<_> = of_it
            .filter(|event| event.id.position > after.position)
            .map(|event| (event.id, event.data.clone()))
            .collect();
        if found.len() as u64 != stream.1 - after.position {
            return Err(Gone::Events);
        }
        Ok((found, stream.2))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_replay_is_a_list_of_events(
        steps in proptest::collection::vec((0u8..8, any::<proptest::sample::Index>(), 0usize..120, 0u64..20), 1..120),
        (events, bytes, session, streams) in (1usize..6, 60usize..600, 60usize..1200, 1usize..6),
    ) {
        let limits = HttpLimits {
            max_kept_events: events,
            max_kept_bytes: bytes,
            max_kept_ms: 30,
            max_session_kept_bytes: session,
            max_session_streams: streams,
            ..HttpLimits::default()
        };
        let mut replay = Replay::new(limits);
        let mut model = Model { limits, events: vec![], streams: vec![], opened: 0, order: 0 };
        let (mut open, mut now): (Vec<Stream>, u64) = (vec![], 0);
        for (step, which, length, later) in steps {
            now += later * 1_000_000;
            let data = vec![b'x'; length];
            let at = if open.is_empty() { 0 } else { which.index(open.len()) };
            match step {
                0 | 1 => {
                    open.push(replay.open(now));
                    model.open(now);
                }
                2..=4 if !open.is_empty() => {
                    let id = replay.push(&mut open[at], &data, now);
                    model.keep(id, &data, now, false);
                }
                5 if !open.is_empty() => {
                    let id = replay.finish(open.remove(at), &data, now);
                    model.keep(id, &data, now, true);
                }
                6 if !open.is_empty() => {
                    let stream = open.remove(at);
                    let number = stream.number();
                    replay.end(stream, now);
                    model.expire(now);
                    for stream in model.streams.iter_mut().filter(|stream| stream.0 == number) {
                        stream.2 = true;
                    }
                    model.tidy();
                }
                _ => {
                    let number = which.index(model.opened as usize + 1) as u64;
                    replay.last_written(number, now);
                    model.written(number, now);
                }
            }
            replay.expire(now);
            model.expire(now);
            prop_assert_eq!(replay.bytes(), Model::size(model.events.iter()));
            prop_assert!(replay.bytes() <= session);
            prop_assert_eq!(replay.streams(), model.streams.len());
            prop_assert!(replay.streams() <= streams);
            for stream in 0..=model.opened + 1 {
                let sent = model.streams.iter().find(|held| held.0 == stream).map_or(0, |held| held.1);
                for position in 0..=sent + 1 {
                    let resumed = replay.resume(id(stream, position), now).map(|resumed| {
                        let has_ended = resumed.has_ended();
                        (resumed.map(|(id, data)| (id, data.to_vec())).collect::<Vec<_>>(), has_ended)
                    });
                    prop_assert_eq!(resumed, model.resume(id(stream, position)), "{}-{}", stream, position);
                }
            }
        }
    }

    #[test]
    fn an_event_id_is_read_as_written(stream: u64, position: u64, other: String) {
        prop_assert_eq!(EventId::parse(&id(stream, position).to_string()), Some(id(stream, position)));
        if let Some(id) = EventId::parse(&other) {
            prop_assert_eq!(id.to_string(), other);
        }
    }
}
