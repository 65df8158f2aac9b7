//! The record of an exchange and the legs that are joined to it.

use std::sync::Arc;

use turnout_core::flight::record::{Direction, PeerInfo, Record, RecordInit};
use turnout_core::flight::target::Target;

fn record(number: u64) -> Arc<Record> {
    let peer = PeerInfo::new("peer", "memory");
    Arc::new(Record::new(&RecordInit {
        number,
        direction: Direction::Outbound,
        peer: &Arc::new(peer),
        method: &"tools/call".into(),
        id: b"",
        token: b"",
        target: Target::NONE,
        wants_progress: false,
        asker: None,
        is_leg: false,
        now: 1,
    }))
}

fn legs(record: &Record) -> Vec<u64> {
    record.legs().map(|leg| leg.number).collect()
}

#[test]
fn x1_legs_stand_in_the_order_in_which_they_were_joined_each_once() {
    let (near, first) = (record(1), record(10));
    assert_eq!(legs(&near), [0; 0]);
    for leg in [&first, &record(11), &first, &record(12)] {
        near.join(Arc::clone(leg));
    }
    assert_eq!(legs(&near), [10, 11, 12]);
    assert!(near.legs().all(|leg| leg.is_leg()) && !near.is_leg());
    assert_eq!(legs(&first), [0; 0], "the leg after it is none of its own");
}

#[test]
fn r5_requests_one_after_the_other_share_a_leg() {
    let (first, second, leg) = (record(1), record(2), record(10));
    for near in [&first, &second] {
        near.join(Arc::clone(&leg));
    }
    assert_eq!((legs(&first), legs(&second)), (vec![10], vec![10]));
}

#[test]
fn an_exchange_of_one_leg_pays_for_one_pointer() {
    assert!(size_of::<Record>() <= 160, "{} bytes", size_of::<Record>());
}
