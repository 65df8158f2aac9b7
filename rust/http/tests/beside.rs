//! Any bytes, read in several ways that must agree: cut differently, and by another reader of heads.

use turnout_http::{ClientStep, ClientSyntax, Reason, ServerStep, ServerSyntax, SyntaxLimits};

use crate::kit::{receive, serve, text};

/// What a server's half refuses of heads that `httparse` reads, and why it may: the two must never read a head that
/// both accept differently, and the list below is all that they differ in.
const STRICTER_REQUESTS: &[Reason] = &[
    Reason::BareLf,          // httparse ends lines at a line feed alone
    Reason::Target,          // it takes any visible bytes for a target
    Reason::NoHost,          // it knows no field by its name, so it checks neither hosts,
    Reason::Host,            //
    Reason::Length,          // nor lengths,
    Reason::RepeatedLength,  //
    Reason::LengthAndCoding, // nor codings,
    Reason::Coding,          //
    Reason::OtherCoding,     //
    Reason::Expectation,     // nor expectations,
    Reason::BodyTooLarge,    // and has no limits but the number of fields
    Reason::StartLineTooLong,
    Reason::LineTooLong,
    Reason::HeadTooLarge,
    Reason::TooManyLines,
];

/// The same of a client's half.
const STRICTER_RESPONSES: &[Reason] = &[
    Reason::BareLf,
    Reason::StartLine, // httparse skips empty lines before a response
    Reason::Status,    // httparse takes any three digits
    Reason::Length,
    Reason::RepeatedLength,
    Reason::LengthAndCoding,
    Reason::Coding,
    Reason::OtherCoding,
    Reason::Switched, // and knows nothing of what was asked
    Reason::BodyTooLarge,
    Reason::StartLineTooLong,
    Reason::LineTooLong,
    Reason::HeadTooLarge,
    Reason::TooManyLines,
];

/// Bounds that short inputs reach.
const TIGHT: SyntaxLimits = SyntaxLimits {
    line_bytes: 96,
    head_bytes: 192,
    head_lines: 8,
    trailer_bytes: 48,
    body_bytes: 64,
    ahead_bytes: 64,
    interim: 2,
};

/// However the bytes are cut, both halves say the same of them.
pub fn any_cut(data: &[u8], step: usize) {
    let step = step.max(1);
    for limits in [SyntaxLimits::default(), TIGHT] {
        let whole = serve(&limits, [data]);
        assert_eq!(serve(&limits, data.chunks(step)), whole, "requests by {step}: {:?}", text(data));
        assert_eq!(serve(&limits, data.chunks(1)), whole, "requests by 1: {:?}", text(data));
        for (method, eof) in [("GET", true), ("GET", false), ("HEAD", true)] {
            let whole = receive(&limits, method, [data], eof);
            let cut = receive(&limits, method, data.chunks(step), eof);
            assert_eq!(cut, whole, "responses by {step}: {:?}", text(data));
            assert_eq!(
                receive(&limits, method, data.chunks(1), eof),
                whole,
                "responses by 1: {:?}",
                text(data)
            );
        }
    }
}

type Fields = Vec<(String, Vec<u8>)>;

fn owned(fields: &[httparse::Header<'_>]) -> Fields {
    fields.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect()
}

/// A head of a request that both read is the same, and what only `httparse` reads is refused for a reason of the list.
pub fn request_head(data: &[u8]) {
    let mut server = ServerSyntax::new(&SyntaxLimits::default());
    let _ = server.feed(data);
    let mut room = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Request::new(&mut room);
    let parsed = theirs.parse(data);
    match server.step() {
        ServerStep::Head(ours) => {
            assert!(matches!(parsed, Ok(httparse::Status::Complete(_))), "{parsed:?}: {:?}", text(data));
            assert_eq!(Some(ours.method()), theirs.method);
            let query = ours.query().map(|query| format!("?{query}")).unwrap_or_default();
            let target = theirs.path.unwrap();
            if target.starts_with('/') || target == "*" {
                assert_eq!(format!("{}{query}", ours.path()), target);
            }
            assert_eq!(theirs.version, Some(u8::from(!ours.is_old())));
            let fields: Fields =
                ours.fields().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            assert_eq!(fields, owned(theirs.headers), "{:?}", text(data));
        }
        ServerStep::Refused(refusal) if matches!(parsed, Ok(httparse::Status::Complete(_))) => {
            assert!(STRICTER_REQUESTS.contains(&refusal.reason), "{refusal:?}: {:?}", text(data));
        }
        ServerStep::NeedInput => {
            assert!(
                !matches!(parsed, Ok(httparse::Status::Complete(_))),
                "only httparse is done: {:?}",
                text(data)
            );
        }
        ServerStep::Refused(_) => {}
        step => panic!("{step:?}"),
    }
}

/// The same for the head of a response to a GET.
pub fn response_head(data: &[u8]) {
    let mut client = ClientSyntax::new(&SyntaxLimits::default());
    client.request("GET", "/", &[("host", b"a")], b"", &mut Vec::new()).unwrap();
    let _ = client.feed(data);
    let mut room = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Response::new(&mut room);
    let parsed = theirs.parse(data);
    match client.step() {
        ClientStep::Head(ours) | ClientStep::Interim(ours) => {
            assert!(matches!(parsed, Ok(httparse::Status::Complete(_))), "{parsed:?}: {:?}", text(data));
            assert_eq!(Some(ours.status()), theirs.code);
            let fields: Fields =
                ours.fields().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            assert_eq!(fields, owned(theirs.headers), "{:?}", text(data));
        }
        ClientStep::Refused(refusal) if matches!(parsed, Ok(httparse::Status::Complete(_))) => {
            assert!(STRICTER_RESPONSES.contains(&refusal.reason), "{refusal:?}: {:?}", text(data));
        }
        ClientStep::NeedInput => {
            assert!(
                !matches!(parsed, Ok(httparse::Status::Complete(_))),
                "only httparse is done: {:?}",
                text(data)
            );
        }
        ClientStep::Refused(_) => {}
        step => panic!("{step:?}"),
    }
}

/// All of the above of any bytes; the first byte says how the rest is cut.
pub fn http(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    any_cut(bytes, usize::from(step));
    request_head(bytes);
    response_head(bytes);
}
