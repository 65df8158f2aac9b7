//! The head of a request, read: what it asks for, for whom, and what somebody has to know who says who that is.

use turnout_core::http::request::{Action, Fields, Refused, RequestLine};
use turnout_core::http::{fields, proxies};

use crate::http::client::Client;
use crate::http::endpoint::HttpEndpoint;

/// The head of a request, read.
pub struct Opening {
    pub action: Result<Action, Refused>,
    pub client: Option<Client>,
    /// The origin whose pages are shown the answer.
    pub shown_to: Option<Box<[u8]>>,
    pub page_headers: Option<Vec<u8>>,
    /// Its method, path, query and fields, where somebody asks who it is.
    pub asked: Option<AskedHead>,
}

/// What is shown of it.
pub struct AskedHead {
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Opening {
    /// Reads a head.
    pub fn of<'a>(
        endpoint: &HttpEndpoint,
        peer: &Client,
        line: RequestLine<'_>,
        lines: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Self {
        let fields = Fields::read(lines.clone());
        let accept = || {
            lines
                .clone()
                .filter(|(name, _)| name.eq_ignore_ascii_case(fields::ACCEPT))
                .map(|(_, value)| value)
        };
        let serves = &endpoint.endpoint;
        let mut action = serves.check_head(line, &fields);
        action = action.and_then(|action| match action {
            Action::Post => serves.check_post(&fields, accept()).map(|()| action),
            Action::Get => serves.check_get(accept()).map(|()| action),
            _ => Ok(action),
        });
        let is_shown = serves.shows_to_origins
            && fields.origin.is_some_and(|origin| serves.allows(origin, line.is_local));
        let client = proxies::client_of(&peer.address, fields.forwarded_for, &serves.proxies);
        let asks =
            endpoint.authenticates && matches!(action, Ok(Action::Post | Action::Get | Action::Delete));
        let asked = asks.then(|| AskedHead {
            method: line.method.into(),
            path: line.path.into(),
            query: line.query.map(Into::into),
            fields: lines.map(|(name, value)| (name.to_lowercase(), value.into())).collect(),
        });
        Self {
            action,
            client: (*client != *peer.address).then(|| Client::at(client)),
            shown_to: fields.origin.filter(|_| is_shown).map(Into::into),
            page_headers: fields.page_headers.map(Into::into),
            asked,
        }
    }
}
