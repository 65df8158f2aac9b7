//! Whole exchanges with hyper at the other end, in memory: what one side writes the other reads.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, StatusCode};
use proptest::prelude::*;
use turnout_http::{ClientSyntax, SyntaxLimits};

use crate::differential::{heads, messages, requests};
use crate::kit::{Head, Said, receive, serve, text};

/// A socket in memory: what is there is read, and then nothing more comes.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl Socket {
    fn with(input: &[u8]) -> Self {
        Self(Arc::new(Mutex::new((input.to_vec(), Vec::new()))))
    }

    fn written(&self) -> Vec<u8> {
        self.0.lock().unwrap().1.clone()
    }

    fn feed(&self, input: &[u8]) {
        self.0.lock().unwrap().0.extend_from_slice(input);
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let input = &mut self.0.lock().unwrap().0;
        if input.is_empty() {
            return Poll::Pending;
        }
        let count = room.remaining().min(input.len());
        room.put_slice(&input[..count]);
        input.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().1.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A body in parts; of a declared length or in chunks.
struct Parts(Vec<&'static str>, bool);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let part = self.0.remove(0);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.1 {
            SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
        } else {
            SizeHint::new()
        }
    }
}

async fn collect(mut body: Incoming) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Some(bytes)
}

/// A request as hyper's server sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    method: String,
    target: String,
    fields: usize,
    body: Vec<u8>,
}

/// What hyper's server sees in `input`, and what it writes when it answers each request with `status` and `parts`.
fn hyper_serves(input: &[u8], status: u16, parts: &[&'static str], exact: bool) -> (Vec<Seen>, Vec<u8>) {
    let socket = Socket::with(input);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (seen, parts) = (seen.clone(), parts.to_vec());
        async move {
            let (head, body) = request.into_parts();
            let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            if let Some(body) = collect(body).await {
                let (method, fields) = (head.method.to_string(), head.headers.len());
                seen.lock().unwrap().push(Seen { method, target, fields, body });
            }
            let mut response = Response::new(Parts(parts, exact));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(socket.clone(), service);
    let mut connection = pin!(connection);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..20 {
        if connection.as_mut().poll(&mut context).is_ready() {
            break;
        }
    }
    let seen = seen.lock().unwrap().clone();
    (seen, socket.written())
}

#[test]
fn hyper_reads_our_requests_and_we_its_responses() {
    for (method, body) in
        [("GET", ""), ("DELETE", ""), ("HEAD", ""), ("POST", ""), ("POST", "{}"), ("PUT", "x")]
    {
        let mut client = ClientSyntax::new(&SyntaxLimits::default());
        let mut out = Vec::new();
        let fields: &[(&str, &[u8])] =
            &[("host", b"a:1"), ("accept", b"text/event-stream, application/json")];
        client.request(method, "/mcp?a=b", fields, body.as_bytes(), &mut out).unwrap();
        for (status, parts, exact) in [
            (200, &["{}", "xyz"][..], true),
            (200, &["data: 1\n\n", "data: 2\n\n"], false),
            (202, &[], true),
            (204, &[], true),
        ] {
            let (seen, written) = hyper_serves(&out, status, parts, exact);
            let [request] = &seen[..] else { panic!("{seen:?}") };
            assert_eq!((&request.method[..], &request.target[..]), (method, "/mcp?a=b"));
            assert_eq!(text(&request.body), body);
            let said = receive(&SyntaxLimits::default(), method, [&written[..]], false);
            let Said::Head(Head { first, .. }) = &said[0] else { panic!("{said:?}") };
            assert_eq!(first, &status.to_string());
            let expected = if method == "HEAD" { String::new() } else { parts.concat() };
            let read: Vec<u8> = said
                .iter()
                .flat_map(|step| if let Said::Body(body) = step { body.clone() } else { Vec::new() })
                .collect();
            assert_eq!(text(&read), expected);
            assert_eq!(said[said.len() - 2..], [Said::End, Said::Idle], "{}", text(&written));
        }
    }
}

#[test]
fn we_read_the_requests_of_hyper_and_it_our_responses() {
    for (body, exact) in [(&["{}", "xyz"][..], true), (&["{}", "xyz"], false), (&[], true)] {
        let socket = Socket::default();
        let mut context = Context::from_waker(Waker::noop());
        let handshake = hyper::client::conn::http1::handshake(socket.clone());
        let Poll::Ready(Ok((mut sender, connection))) = pin!(handshake).poll(&mut context) else { panic!() };
        let mut connection = pin!(connection);
        let request = Request::post("/mcp").header("host", "a").body(Parts(body.to_vec(), exact)).unwrap();
        let mut answer = pin!(async {
            let response = sender.send_request(request).await.unwrap();
            (response.status().as_u16(), collect(response.into_body()).await.unwrap())
        });
        let mut fed = false;
        let answer = (0..50).find_map(|_| {
            let _ = connection.as_mut().poll(&mut context);
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                return Some(answer);
            }
            let (said, out) = serve(&SyntaxLimits::default(), [&socket.written()[..]]);
            if !fed && said.contains(&Said::End) {
                let read: Vec<&Said> = said.iter().filter(|step| matches!(step, Said::Body(_))).collect();
                let expected = Said::Body(body.concat().into_bytes());
                assert_eq!(read, if body.is_empty() { vec![] } else { vec![&expected] });
                socket.feed(&out);
                fed = true;
            }
            None
        });
        assert_eq!(answer, Some((200, b"ok".to_vec())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    /// A request that we read whole is the same request for hyper: nothing that passes here means another thing there.
    #[test]
    fn what_we_accept_hyper_reads_alike(bytes in prop_oneof![requests(), messages(), heads()]) {
        let (said, _) = serve(&SyntaxLimits::default(), [&bytes[..]]);
        let Some(end) = said.iter().position(|step| *step == Said::End) else { return Ok(()) };
        let Said::Head(head) = &said[0] else { panic!("{said:?}") };
        // hyper has no place for a target without a path.
        prop_assume!(!head.first.starts_with("OPTIONS *"));
        let (seen, _) = hyper_serves(&bytes, 200, &["ok"], true);
        prop_assert!(!seen.is_empty(), "hyper read nothing of {:?}", text(&bytes));
        let first = &seen[0];
        prop_assert_eq!(head.first.split(' ').next(), Some(&first.method[..]));
        prop_assert_eq!(first.fields, head.fields.len());
        let body: Vec<u8> = said[..end].iter().flat_map(|step| match step {
            Said::Body(body) => body.clone(),
            _ => Vec::new(),
        }).collect();
        prop_assert_eq!(text(&first.body), text(&body));
    }
}
