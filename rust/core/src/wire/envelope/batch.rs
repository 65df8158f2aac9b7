//! Batches (2025-03-26): several messages in one frame.

use super::reading::{inside, starts_as_message};
use super::{Partial, Refusal, RefusalReason, ScanLimits};
use crate::wire::scan::{Fault, Scanner};
use crate::wire::span::Span;

/// The spans of the members of a 2025-03-26 batch in its frame (BAT-02). They are neither looked into nor checked
/// for UTF-8: [`scan`](super::scan) does both, for each.
pub fn batch(frame: &[u8], limits: &ScanLimits) -> Result<Vec<Span>, Refusal> {
    let partial = Partial { starts_as_message: starts_as_message(frame), ..Partial::default() };
    members(frame, limits).map_err(|fault| Refusal {
        reason: fault.reason,
        offset: fault.offset as usize,
        partial,
    })
}

fn members(frame: &[u8], limits: &ScanLimits) -> Result<Vec<Span>, Fault> {
    let mut scanner = Scanner::new(frame);
    scanner.space();
    if scanner.peek() != Some(b'[') {
        return scanner.unexpected(RefusalReason::NotAMessage);
    }
    let depth = inside(&scanner, limits.max_depth)?;
    scanner.at += 1;
    scanner.space();
    if scanner.peek() == Some(b']') {
        return scanner.fault(RefusalReason::EmptyBatch);
    }
    let mut members = Vec::new();
    loop {
        members.push(scanner.value(depth)?);
        scanner.space();
        match scanner.peek() {
            Some(b',') => {
                scanner.at += 1;
                scanner.space();
            }
            Some(b']') => {
                scanner.at += 1;
                scanner.end()?;
                return Ok(members);
            }
            _ => return scanner.unexpected(RefusalReason::NotJson),
        }
    }
}
