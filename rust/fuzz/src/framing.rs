//! Framing: any split of the bytes gives the same frames.

use turnout_core::wire::frames::{FrameBuffer, Item};

const MAX_FRAME: usize = 64;

#[derive(Debug, PartialEq)]
enum Piece {
    Frame(Vec<u8>),
    Oversized,
    Truncated,
}

fn drain(buffer: &mut FrameBuffer, pieces: &mut Vec<Piece>) {
    while let Some(item) = buffer.next_item() {
        pieces.push(match item {
            Item::Frame(span) => Piece::Frame(span.of(buffer.region()).to_vec()),
            Item::Oversized { .. } => Piece::Oversized,
            Item::Truncated { .. } => Piece::Truncated,
        });
    }
    buffer.consume(true);
}

/// The first byte says how the rest is cut.
pub fn framing(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let cut = |step: usize| {
        let mut buffer = FrameBuffer::new(MAX_FRAME);
        let mut pieces = Vec::new();
        for chunk in bytes.chunks(step) {
            buffer.extend(chunk);
            drain(&mut buffer, &mut pieces);
        }
        buffer.end();
        drain(&mut buffer, &mut pieces);
        pieces
    };
    let whole = cut(bytes.len().max(1));
    assert_eq!(whole, cut(usize::from(step).max(1)));
    assert_eq!(whole, cut(1));
    for piece in &whole {
        if let Piece::Frame(frame) = piece {
            assert!(frame.len() <= MAX_FRAME && !frame.contains(&b'\n') && !frame.is_empty());
        }
    }
}
