//! The error codes of JSON-RPC and of the protocol, each once.

/// JSON-RPC: not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: no such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the params name something unknown, or are malformed.
pub const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: a fault on our side.
pub const INTERNAL_ERROR: i64 = -32603;

/// The message of [`METHOD_NOT_FOUND`].
pub const METHOD_NOT_FOUND_MESSAGE: &str = "Method not found";
/// The message of [`INTERNAL_ERROR`], where nothing is told of the cause.
pub const INTERNAL_ERROR_MESSAGE: &str = "Internal error";

/// Up to 2025-11-25: there is no such resource. Later revisions call it [`INVALID_PARAMS`], which the connection sees to.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// 2025-11-25: the request needs an elicitation by URL first, by a client that can do that.
pub const URL_ELICITATION_REQUIRED: i64 = -32042;

/// 2026-07-28: a header says something else than the message.
pub const HEADER_MISMATCH: i64 = -32020;
/// 2026-07-28: a request needs something that its client did not declare.
pub const MISSING_CAPABILITY: i64 = -32021;
/// 2026-07-28: the version is none of those that the server supports.
pub const UNSUPPORTED_VERSION: i64 = -32022;
