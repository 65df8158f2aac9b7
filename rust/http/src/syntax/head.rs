//! Heads, as borrowed from the connection's buffer.

/// The head of a request. Everything in it is the client's: nothing is unescaped, and names keep their case.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a>(pub(super) http_net::RequestHead<'a>);

impl<'a> RequestHead<'a> {
    /// The method, as it was sent: `post` is not `POST`.
    pub fn method(&self) -> &'a str {
        self.0.method_str()
    }

    /// The path of the target, without the query; `*` for the server as a whole.
    pub fn path(&self) -> &'a str {
        self.0.path()
    }

    /// The query of the target, without its question mark.
    pub fn query(&self) -> Option<&'a str> {
        self.0.query()
    }

    /// The host that the request is for, as `host` or `host:port`. It may be empty, and HTTP/1.0 may have none.
    pub fn host(&self) -> Option<&'a str> {
        self.0.host()
    }

    /// Whether the client speaks HTTP/1.0: a stream to it ends with the connection.
    pub fn is_old(&self) -> bool {
        self.0.version() == http_net::Version::Http10
    }

    /// Whether the client lets the connection stay open behind this exchange.
    pub fn keep_alive(&self) -> bool {
        self.0.keep_alive()
    }

    /// Whether a body follows.
    pub fn has_body(&self) -> bool {
        self.0.framing() != http_net::BodyFraming::None
    }

    /// The length of the body, where it was declared.
    pub fn content_length(&self) -> Option<u64> {
        self.0.content_length()
    }

    /// Whether the client waits for [`ServerSyntax::proceed`](super::ServerSyntax::proceed) before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.0.expects_continue()
    }

    /// The field lines in their order.
    pub fn fields(&self) -> Fields<'a> {
        Fields(self.0.headers())
    }

    /// The value of the first field of this name, in any case of letters.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.0.header(name)
    }
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a>(pub(super) http_net::ResponseHead<'a>);

impl<'a> ResponseHead<'a> {
    /// The status, from 100 to 599.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// Whether the server lets the connection stay open behind this exchange.
    pub fn keep_alive(&self) -> bool {
        self.0.keep_alive()
    }

    /// The length of the body, where it was declared.
    pub fn content_length(&self) -> Option<u64> {
        self.0.content_length()
    }

    /// Whether the body runs until the connection ends: a body that was cut off cannot be told from a whole one.
    pub fn ends_with_connection(&self) -> bool {
        self.0.framing() == http_net::BodyFraming::UntilClose
    }

    /// The field lines in their order.
    pub fn fields(&self) -> Fields<'a> {
        Fields(self.0.headers())
    }

    /// The value of the first field of this name, in any case of letters.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.0.header(name)
    }
}

/// The field lines of a head: names as they were sent, values without the white space around them.
#[derive(Debug, Clone)]
pub struct Fields<'a>(http_net::Headers<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}
