//! Tunnels through a proxy: what is asked, and which answers open one.

use turnout_http::{Reason, SyntaxLimits, TunnelStep, TunnelSyntax};

fn asked() -> (TunnelSyntax, String) {
    let mut tunnel = TunnelSyntax::new(&SyntaxLimits::default());
    let mut out = Vec::new();
    tunnel.request("example.com:443", &[("proxy-authorization", b"Basic eDp5")], &mut out).unwrap();
    (tunnel, String::from_utf8(out).unwrap())
}

/// What becomes of an answer, however it is cut.
fn answered(answer: &[u8]) -> TunnelStep {
    let step = asked().0.feed(answer);
    for cut in 1..answer.len() {
        let mut tunnel = asked().0;
        let first = tunnel.feed(&answer[..cut]);
        let last = if first == TunnelStep::NeedInput { tunnel.feed(&answer[cut..]) } else { first };
        let is_same = match (step, last) {
            (TunnelStep::Refused(_), TunnelStep::Refused(_) | TunnelStep::Open) => true,
            (one, other) => one == other,
        };
        assert!(is_same, "cut at {cut}: {step:?}, {last:?}");
    }
    step
}

#[test]
fn a_tunnel_is_asked_for_by_its_authority() {
    let (_, said) = asked();
    assert_eq!(
        said,
        "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\nproxy-authorization: Basic eDp5\r\n\r\n"
    );
    let mut tunnel = TunnelSyntax::new(&SyntaxLimits::default());
    assert!(tunnel.request("a:1\r\nx: y", &[], &mut Vec::new()).is_err());
    let mut tunnel = TunnelSyntax::new(&SyntaxLimits::default());
    assert!(tunnel.request("a:1", &[("x", b"a\r\nb: c")], &mut Vec::new()).is_err());
}

#[test]
fn only_a_success_opens_it_whatever_length_it_says() {
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
        "HTTP/1.1 204 X\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        assert_eq!(answered(answer.as_bytes()), TunnelStep::Open, "{answer}");
    }
    for status in [301, 302, 307, 401, 403, 407, 429, 502, 503] {
        let answer = format!("HTTP/1.1 {status} X\r\nLocation: http://other/\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(answered(answer.as_bytes()), TunnelStep::Denied(status));
    }
}

#[test]
fn what_is_no_answer_or_more_than_one_is_refused() {
    let refused = |answer: &[u8]| match answered(answer) {
        TunnelStep::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03"), Reason::Unexpected);
    assert_eq!(refused(b"HTTP/1.1 101 Switching\r\n\r\n"), Reason::Switched);
    assert_eq!(refused(b"HTTP/1.1 200 OK\n\n"), Reason::BareLf);
    assert_eq!(refused(b"SSH-2.0-x\r\n\r\n"), Reason::StartLine);
    let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n".repeat(10_000)].concat();
    let mut tunnel = asked().0;
    let steps: Vec<_> = endless.chunks(1_000).map(|part| tunnel.feed(part)).collect();
    assert!(steps.iter().any(|step| matches!(step, TunnelStep::Refused(_))));
    let line = vec![b'a'; 100_000];
    let mut tunnel = asked().0;
    assert!(
        line.chunks(1_000).map(|part| tunnel.feed(part)).any(|step| matches!(step, TunnelStep::Refused(_)))
    );
}
