//! The library's errors in our words.

use http_net::HttpError as E;

use crate::{Reason, Refusal, WriteError};

pub(super) fn refusal(error: E) -> Refusal {
    Refusal { reason: reason(error), status: error.status() }
}

fn reason(error: E) -> Reason {
    match error {
        E::InvalidStartLine => Reason::StartLine,
        E::InvalidMethod => Reason::Method,
        E::InvalidTarget => Reason::Target,
        E::InvalidVersion | E::UnsupportedVersion => Reason::Version,
        E::Http2Preface => Reason::Http2,
        E::InvalidStatus => Reason::Status,
        E::StartLineTooLong => Reason::StartLineTooLong,
        E::HeadersTooLarge => Reason::HeadTooLarge,
        E::TooManyHeaders => Reason::TooManyLines,
        E::FieldLineTooLong => Reason::LineTooLong,
        E::BareCr => Reason::BareCr,
        E::BareLf => Reason::BareLf,
        E::ObsFold => Reason::Fold,
        E::InvalidHeaderName => Reason::FieldName,
        E::WhitespaceBeforeColon => Reason::SpaceBeforeColon,
        E::InvalidHeaderValue => Reason::FieldValue,
        E::MissingHost => Reason::NoHost,
        E::InvalidHost => Reason::Host,
        E::InvalidContentLength => Reason::Length,
        E::DuplicateContentLength => Reason::RepeatedLength,
        E::ConflictingFraming => Reason::LengthAndCoding,
        E::InvalidTransferEncoding | E::TransferEncodingInHttp10 => Reason::Coding,
        E::UnsupportedTransferEncoding => Reason::OtherCoding,
        E::InvalidChunkSize
        | E::InvalidChunkExtension
        | E::InvalidChunkTerminator
        | E::ChunkLineTooLong
        | E::ChunkExtensionsTooLarge => Reason::Chunk,
        E::BodyTooLarge => Reason::BodyTooLarge,
        E::UnexpectedEof => Reason::Truncated,
        E::UnexpectedData => Reason::Unexpected,
        E::UnexpectedUpgrade => Reason::Switched,
        E::TooManyInterim => Reason::TooManyInterim,
        _ => Reason::Other,
    }
}

pub(super) fn write_error(error: E) -> WriteError {
    match error {
        E::InvalidHeaderName => WriteError::FieldName,
        E::InvalidHeaderValue | E::BareCr => WriteError::FieldValue,
        E::ReservedHeader => WriteError::OwnField,
        E::InvalidStatus | E::InterimNotAllowed => WriteError::Status,
        E::BodyNotAllowed => WriteError::Body,
        E::InvalidMethod | E::InvalidTarget => WriteError::Target,
        E::MissingHost | E::InvalidHost => WriteError::Host,
        E::InvalidState(rule) => WriteError::State(rule),
        _ => WriteError::State("the exchange is in another state"),
    }
}
