//! Who may keep an answer that a relay passes on: only its client, where another one may be answered something else.

use std::sync::Arc;

use crate::world::World;
use turnout_core::limits::Limits;
use turnout_core::relay::{Goal, Routes, UpstreamSlot};
use turnout_core::rules::Revision;

const MODERN: Revision = Revision::V2026_07_28;

const CACHEABLE: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

/// What makes answers depend on who asks.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Nothing,
    Routes,
    Server,
    Host,
}

/// What a modern client reads of a modern server's result.
fn told(method: &str, by: By, result: &str) -> String {
    let routes = Routes::new([], Goal::Upstream(0)).unwrap();
    let mut world = World::with(&["one"], if by == By::Routes { routes.of_some() } else { routes });
    let slot = Arc::new(if by == By::Server {
        UpstreamSlot::exclusive(world.declared(0))
    } else {
        UpstreamSlot::shared(world.declared(0))
    });
    let client = world.client_at(&[&slot], MODERN, Limits::default());
    let server = world.server_of(&slot, MODERN, Limits::default());
    world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":"a","method":"{method}"}}"#));
    world.settle();
    if by == By::Host {
        // It has a say by now: what it says of others is not known here.
        world.relay.watch([method.as_bytes().into()]);
    }
    assert_eq!(world.lines(server).len(), 1);
    world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#));
    world.settle();
    let lines = world.lines(client);
    let told = lines[0].strip_prefix(r#"{"jsonrpc":"2.0","id":"a","result":"#).unwrap();
    told.strip_suffix('}').unwrap().to_owned()
}

#[test]
fn s3_an_answer_that_depends_on_who_asks_may_be_kept_for_its_client_only() {
    for method in CACHEABLE {
        for by in [By::Routes, By::Server, By::Host] {
            let told = |result: &str| told(method, by, result);
            assert_eq!(
                told(r#"{"resultType":"complete","ttlMs":7, "cacheScope" : "public","x":[1.50]}"#),
                r#"{"resultType":"complete","ttlMs":7, "cacheScope" : "private","x":[1.50]}"#
            );
            // Whatever else it says, or does not say, others may not take it for a word to them.
            for said in [r#""x""#, r#""publi\u0063""#, "7", "null"] {
                assert_eq!(
                    told(&format!(r#"{{"cacheScope":{said},"resultType":"complete"}}"#)),
                    r#"{"cacheScope":"private","resultType":"complete"}"#
                );
            }
            assert_eq!(
                told(r#"{"resultType":"complete"}"#),
                r#"{"cacheScope":"private","resultType":"complete"}"#
            );
            assert_eq!(told("{ }"), r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private" }"#);
            let private = r#"{"cacheScope":"private","resultType":"complete","_meta":{"a":1}}"#;
            assert_eq!(told(private), private);
        }
    }
}

#[test]
fn an_answer_that_depends_on_nobody_stays_as_it_is() {
    let public = r#"{"cacheScope":"public","resultType":"complete","ttlMs":7}"#;
    for method in CACHEABLE {
        assert_eq!(told(method, By::Nothing, public), public);
    }
    // Nobody keeps these, whatever is said there.
    for by in [By::Routes, By::Server, By::Host] {
        assert_eq!(told("tools/call", by, public), public);
    }
}

#[test]
fn s1_an_answer_made_private_names_no_subscription_or_token_of_its_server() {
    let foreign = r#""_meta":{"progressToken":1,"io.modelcontextprotocol/subscriptionId":1,"its":2}"#;
    let result = format!(r#"{{"resultType":"complete","cacheScope":"public",{foreign}}}"#);
    let told = told("resources/read", By::Routes, &result);
    let meta = r#""_meta":{"io.modelcontextprotocol/subscriptionId":"a","its":2}"#;
    assert_eq!(told, format!(r#"{{"resultType":"complete","cacheScope":"private",{meta}}}"#));
}
