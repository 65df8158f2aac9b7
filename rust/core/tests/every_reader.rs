//! Every reader sees the same message (S2), and nothing under an id's or a token's key crosses untranslated (S1): a
//! zoo of simulated readers on the other side of a relay, hostile peers on this one.

use std::cell::Cell;

use crate::world::World;
use crate::zoo::crossing::crossing;
use crate::zoo::frames::{Dice, payload};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[test]
fn s2_every_reader_finds_our_ids_and_the_same_names_whatever_a_peer_writes() {
    let arrived = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1500),
    ));
    let script = proptest::collection::vec(any::<u8>(), 0..400);
    let done = runner.run(&script, |script| {
        arrived.set(arrived.get() + crossing(&script));
        Ok(())
    });
    done.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(arrived.get() > 1500, "too few messages arrive to prove anything: {}", arrived.get());
}

/// JSON of any kind in which keys of the protocol stand twice, in any case and with escapes.
fn any_payload() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| payload(&mut Dice::new(&bytes), 3))
}

/// Members of an object, each of which has such a key, but none that means something to every method.
fn any_members() -> impl Strategy<Value = String> {
    const KEYS: &[&str] = &[
        "ID",
        "id",
        "\\u0069d",
        "Name",
        "name",
        "uri",
        "URI",
        "taskId",
        "TaskID",
        "requestId",
        "requestId",
        "progressToken",
        "ProgressToken",
        "cursor",
        "Ref",
        "requestState",
        "ſtatus",
        "status",
        "method",
        "result",
        "Task",
        "task",
    ];
    let member = (proptest::sample::select(KEYS), any_payload());
    proptest::collection::vec(member, 0..8).prop_map(|all| {
        all.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect::<Vec<_>>().join(" , ")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn s2_what_only_contains_such_keys_passes_unchanged(
        arguments in any_payload(), vendor in any_payload(), structured in any_payload(), params in any_members(),
    ) {
        let mut world = World::new(&["one"]);
        let (client, server) = (world.client(), world.server(0));
        let call = |id, token| format!(
            r#"{{"jsonrpc":"2.0", "id" :{id},"method":"tools/call","x":{vendor},"params":{{"arguments":{arguments},"name":"x","_meta":{{"vendor/x":{vendor},"progressToken":{token}}},"x":[{vendor}]}}}}"#
        );
        let custom = |id| format!(r#"{{"params":{{{params}}},"jsonrpc":"2.0","method":"custom/x","id":{id}}}"#);
        world.write(client, &call("\"c\"", "\"t\""));
        world.write(client, &custom("2.0"));
        world.settle();
        prop_assert_eq!(world.lines(server), [call("1", "1"), custom("2")]);
        let result = |id| format!(
            r#"{{"result":{{"content":[{arguments}],"structuredContent":{structured},"_meta":{{"x":{vendor}}}}},"jsonrpc":"2.0","id":{id}}}"#
        );
        let other = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{params}}}}}"#);
        let error = |id| format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-1,"message":"m","data":{structured}}}}}"#
        );
        world.write(client, &call("3", "3"));
        world.write(server, &result("1"));
        world.write(server, &other("2"));
        world.settle();
        world.write(server, &error("\"3\""));
        world.settle();
        prop_assert_eq!(world.lines(client), [result("\"c\""), other("2.0"), error("3")]);
    }
}
