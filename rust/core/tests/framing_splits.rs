//! Framing does not depend on how the bytes arrive, and does what splitting at newlines would.

use proptest::prelude::*;
use turnout_core::wire::envelope::check_value;
use turnout_core::wire::frames::{FrameBuffer, Item};

/// An item with its bytes; the length of an oversized line depends on when it was noticed, its head does not.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Frame(Vec<u8>),
    Oversized(Vec<u8>),
    Truncated(usize),
}

fn drain(buffer: &mut FrameBuffer, all: &mut Vec<Taken>) {
    while let Some(item) = buffer.next_item() {
        all.push(match item {
            Item::Frame(span) => Taken::Frame(span.of(buffer.region()).to_vec()),
            Item::Oversized { head, length } => {
                assert!(head.len() <= length);
                Taken::Oversized(head)
            }
            Item::Truncated { length } => Taken::Truncated(length),
        });
    }
}

fn framed<'a>(max: usize, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Taken> {
    let mut buffer = FrameBuffer::new(max);
    let mut all = Vec::new();
    for (turn, chunk) in chunks.enumerate() {
        // Both ways to put bytes in, and both ways to consume: none may show.
        if turn % 2 == 0 {
            buffer.extend(chunk);
        } else {
            buffer.spare(chunk.len() + turn)[..chunk.len()].copy_from_slice(chunk);
            buffer.commit(chunk.len());
        }
        drain(&mut buffer, &mut all);
        buffer.consume(turn % 3 != 0);
    }
    buffer.end();
    drain(&mut buffer, &mut all);
    buffer.consume(true);
    assert!(buffer.region().is_empty());
    all
}

/// What framing is, said plainly.
fn model(max: usize, input: &[u8]) -> Vec<Taken> {
    let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let rest = lines.pop().unwrap_or_default();
    let mut all = Vec::new();
    for (line, whole) in lines.into_iter().map(|line| (line, true)).chain([(rest, false)]) {
        if line.strip_suffix(b"\r").unwrap_or(line).len() > max {
            all.push(Taken::Oversized(line[..max.min(4096)].to_vec()));
            continue;
        }
        let solid = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r');
        let Some(start) = line.iter().position(solid) else { continue };
        let frame = &line[start..=line.iter().rposition(solid).unwrap()];
        all.push(if whole || check_value(frame).is_ok() {
            Taken::Frame(frame.to_vec())
        } else {
            Taken::Truncated(frame.len())
        });
    }
    all
}

/// Frames `input` at once, byte by byte and cut at `cuts`. Panics where that makes a difference.
fn check(max: usize, cuts: &[usize], input: &[u8]) {
    let expected = model(max, input);
    assert_eq!(framed(max, [input].into_iter()), expected, "at once");
    assert_eq!(framed(max, input.chunks(1)), expected, "byte by byte");
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(input.len())).collect();
    cuts.sort_unstable();
    let mut from = 0;
    let chunks = cuts.into_iter().chain([input.len()]).map(|to| {
        let chunk = &input[from..to];
        from = to;
        chunk
    });
    assert_eq!(framed(max, chunks), expected, "cut");
}

#[test]
fn the_edges_of_a_line() {
    for (max, input) in [
        (32, &b"{\"a\":1}\n{\"b\":2}\n"[..]),
        (32, b"{\"a\":1}\r\n\r\n \r\n[]\r\n"),
        (8, b"{\"a\":\"0123456789\"}\n{}\n"),
        (8, b"0123456789012345678901234567890"),
        (4, b"1234\r\n1234\rx\n12345\n{}\n"),
        (32, b"{\"a\":"),
        (32, b"{\"a\":1}"),
        // JSON's white space only: a form feed belongs to the frame, and makes it none.
        (32, b"\x0c{}\n\x0b\n"),
    ] {
        for cut in 0..=input.len() {
            check(max, &[cut], input);
        }
    }
}

/// Within a line, a peer that fills what it is offered keeps its memory; one large frame's goes back.
#[test]
fn memory_stays_for_a_busy_peer_and_goes_back_after_a_large_frame() {
    let mut buffer = FrameBuffer::new(1 << 24);
    let mut read = |bytes: &[u8]| {
        buffer.extend(bytes);
        drain(&mut buffer, &mut Vec::new());
        buffer.consume(true);
        buffer.capacity()
    };
    let burst = [&b"1}\n"[..], &b"{}\n".repeat(87_000), b"{"].concat();
    read(&burst);
    let busy = read(&burst);
    assert!(busy >= burst.len());
    assert_eq!(read(&burst), busy);
    assert!(read(b"}\n{") <= 64 << 10, "a burst that is over gives its memory back");
    assert!(read(&[&vec![b'1'; 8 << 20][..], b"\n{"].concat()) <= 64 << 10);
}

/// Between lines a buffer holds nothing: the next one that reads gets the same memory, unless it is large.
#[test]
fn memory_goes_from_one_peer_to_the_next() {
    let (mut one, mut other) = (FrameBuffer::new(1 << 24), FrameBuffer::new(1 << 24));
    let read = |buffer: &mut FrameBuffer, bytes: &[u8]| {
        let space = buffer.spare(bytes.len());
        space[..bytes.len()].copy_from_slice(bytes);
        let place = space.as_ptr();
        buffer.commit(bytes.len());
        let mut items = Vec::new();
        drain(buffer, &mut items);
        assert!(!items.is_empty());
        place
    };
    let place = read(&mut one, &b"{}\n".repeat(10_000));
    one.consume(false);
    assert!(one.capacity() > 0, "it must not move");
    one.consume(true);
    assert_eq!(one.capacity(), 0);
    assert_eq!(read(&mut other, b"{}\n"), place);
    read(&mut one, &[&vec![b'1'; 8 << 20][..], b"\n"].concat());
    one.consume(true);
    other.consume(true);
    assert_eq!((one.capacity(), other.capacity()), (0, 0));
    assert_eq!(read(&mut one, b"{}\n"), place);
    assert!(one.capacity() < 8 << 20, "a large frame's memory is not passed on");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_gives_the_same_items(
        max in 1_usize..40,
        cuts in proptest::collection::vec(0_usize..200, 0..8),
        input in proptest::collection::vec(
            prop_oneof![
                "[0-9]{1,12}", "\\{\"a\":\"[a-z]{0,20}\"\\}", " {0,3}", "\r?\n", "[\r\t\u{b}\u{c}é{]{1,3}",
                Just("\n".to_owned()),
            ],
            0..20,
        ),
    ) {
        check(max, &cuts, input.concat().as_bytes());
    }
}
