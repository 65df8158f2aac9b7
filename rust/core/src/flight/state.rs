//! The state machine of a request: every state, every event, every transition, in both directions.
//!
//! Rules of this file:
//! - Everything that decides how a flight ends is in this file. Nothing else names a next state.
//! - It knows no role, no wire format and no clock.
//! - A flight's state is one atomic word (`table.rs`). An event is one compare-and-swap on it: the first event
//!   that [`RULES`] allows wins, and later events find no rule and have no effect.
//! - A terminal state never changes, except that its slot is freed.

/// The state of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlightState {
    /// No flight here.
    Free = 0,
    /// Ours, encoded, not yet handed to the transport: it can still vanish without a trace.
    Queued,
    /// Ours, handed to the transport: from here on the peer may know it.
    Sent,
    /// The peer's, being handled.
    Running,
    /// The peer's, cancelled by the peer, but its handler opted out and works on. Nothing will be answered.
    Declining,
    /// Answered with a task (2025-11-25): the call is over, its progress token lives until the task ends.
    Task,
    /// Ended with a result.
    Result,
    /// Ended with the peer's error (ours, for a request we handled).
    Error,
    /// Ended by a cancel.
    Cancelled,
    /// The handler opted out of its cancel and finished.
    Declined,
    /// No answer and no progress for the idle timeout.
    IdleTimeout,
    /// No answer within the maximum timeout.
    MaxTimeout,
    /// The peer closed the channel.
    PeerClosed,
    /// The peer's process exited.
    PeerExited,
    /// The peer left our pings without an answer.
    PeerSilent,
    /// We closed the connection.
    Closed,
    /// We closed the connection, since it held the most when all together held too much.
    Evicted,
}

/// What can happen to a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlightEvent {
    /// Its bytes were handed to the transport.
    Written,
    /// A result: the peer's to our request, our handler's to the peer's.
    Answered,
    /// A result that is a `CreateTaskResult` of 2025-11-25.
    AnsweredWithTask,
    /// An error: the peer's to our request, our handler's to the peer's.
    Failed,
    /// A cancel by its requester, or by us.
    Cancel,
    /// The peer cancelled, and the handler had opted out.
    CancelDeclined,
    /// The idle deadline passed.
    IdleExpired,
    /// The maximum deadline passed.
    MaxExpired,
    /// The channel ended.
    PeerClosed,
    /// The peer's process ended.
    PeerExited,
    /// The peer left our pings without an answer.
    PeerSilent,
    /// We close.
    Closed,
    /// We close, since the connection holds the most and all together hold too much.
    Evicted,
    /// Nothing is left to wait for: the late answer came, or the task ended.
    Forget,
}

const EVENTS: usize = 14;
const STATES: usize = 17;

use FlightEvent as E;
use FlightState as S;

/// The whole protocol of a flight. A pair that is not listed is not allowed.
pub const RULES: &[(FlightState, FlightEvent, FlightState)] = &[
    // Our requests.
    (S::Queued, E::Written, S::Sent),
    (S::Queued, E::Cancel, S::Cancelled),
    (S::Queued, E::IdleExpired, S::IdleTimeout),
    (S::Queued, E::MaxExpired, S::MaxTimeout),
    (S::Queued, E::PeerClosed, S::PeerClosed),
    (S::Queued, E::PeerExited, S::PeerExited),
    (S::Queued, E::PeerSilent, S::PeerSilent),
    (S::Queued, E::Closed, S::Closed),
    (S::Queued, E::Evicted, S::Evicted),
    (S::Sent, E::Answered, S::Result),
    (S::Sent, E::AnsweredWithTask, S::Task),
    (S::Sent, E::Failed, S::Error),
    (S::Sent, E::Cancel, S::Cancelled),
    (S::Sent, E::IdleExpired, S::IdleTimeout),
    (S::Sent, E::MaxExpired, S::MaxTimeout),
    (S::Sent, E::PeerClosed, S::PeerClosed),
    (S::Sent, E::PeerExited, S::PeerExited),
    (S::Sent, E::PeerSilent, S::PeerSilent),
    (S::Sent, E::Closed, S::Closed),
    (S::Sent, E::Evicted, S::Evicted),
    // The peer's requests.
    (S::Running, E::Answered, S::Result),
    (S::Running, E::AnsweredWithTask, S::Task),
    (S::Running, E::Failed, S::Error),
    (S::Running, E::Cancel, S::Cancelled),
    (S::Running, E::CancelDeclined, S::Declining),
    (S::Running, E::PeerClosed, S::PeerClosed),
    (S::Running, E::PeerExited, S::PeerExited),
    (S::Running, E::PeerSilent, S::PeerSilent),
    (S::Running, E::Closed, S::Closed),
    (S::Running, E::Evicted, S::Evicted),
    (S::Declining, E::Answered, S::Declined),
    (S::Declining, E::AnsweredWithTask, S::Declined),
    (S::Declining, E::Failed, S::Declined),
    (S::Declining, E::PeerClosed, S::PeerClosed),
    (S::Declining, E::PeerExited, S::PeerExited),
    (S::Declining, E::PeerSilent, S::PeerSilent),
    (S::Declining, E::Closed, S::Closed),
    (S::Declining, E::Evicted, S::Evicted),
    // Tombstones: ended flights that stay until their late answer came or their slot is minted over.
    (S::Task, E::Forget, S::Free),
    (S::Result, E::Forget, S::Free),
    (S::Error, E::Forget, S::Free),
    (S::Cancelled, E::Forget, S::Free),
    (S::Declined, E::Forget, S::Free),
    (S::IdleTimeout, E::Forget, S::Free),
    (S::MaxTimeout, E::Forget, S::Free),
    (S::PeerClosed, E::Forget, S::Free),
    (S::PeerExited, E::Forget, S::Free),
    (S::PeerSilent, E::Forget, S::Free),
    (S::Closed, E::Forget, S::Free),
    (S::Evicted, E::Forget, S::Free),
];

const NO_RULE: u8 = u8::MAX;

/// [`RULES`] as a matrix, so that a transition is one load.
const MATRIX: [[u8; EVENTS]; STATES] = {
    let mut matrix = [[NO_RULE; EVENTS]; STATES];
    let mut i = 0;
    while i < RULES.len() {
        let (from, event, to) = RULES[i];
        assert!(matrix[from as usize][event as usize] == NO_RULE, "two rules for one pair");
        matrix[from as usize][event as usize] = to as u8;
        i += 1;
    }
    matrix
};

const ALL: [FlightState; STATES] = [
    S::Free,
    S::Queued,
    S::Sent,
    S::Running,
    S::Declining,
    S::Task,
    S::Result,
    S::Error,
    S::Cancelled,
    S::Declined,
    S::IdleTimeout,
    S::MaxTimeout,
    S::PeerClosed,
    S::PeerExited,
    S::PeerSilent,
    S::Closed,
    S::Evicted,
];

impl FlightState {
    /// The state that `event` leads to, or None where the event has no effect any more.
    #[inline]
    pub const fn after(self, event: FlightEvent) -> Option<FlightState> {
        match MATRIX[self as usize][event as usize] {
            NO_RULE => None,
            next => Some(ALL[next as usize]),
        }
    }

    /// The state written as `byte` by `self as u8`.
    #[inline]
    pub(crate) const fn from_byte(byte: u8) -> FlightState {
        ALL[byte as usize]
    }

    /// True while the flight has no outcome.
    #[inline]
    pub const fn is_live(self) -> bool {
        matches!(self, S::Queued | S::Sent | S::Running | S::Declining)
    }

    /// How the flight ended, or None while it has not.
    pub const fn outcome(self) -> Option<Outcome> {
        Some(match self {
            S::Free | S::Queued | S::Sent | S::Running | S::Declining => return None,
            S::Task | S::Result => Outcome::Result,
            S::Error => Outcome::Error,
            S::Cancelled => Outcome::Cancelled,
            S::Declined => Outcome::Declined,
            S::IdleTimeout => Outcome::IdleTimeout,
            S::MaxTimeout => Outcome::MaxTimeout,
            S::PeerClosed => Outcome::PeerClosed,
            S::PeerExited => Outcome::PeerExited,
            S::PeerSilent => Outcome::PeerSilent,
            S::Closed => Outcome::Closed,
            S::Evicted => Outcome::Evicted,
        })
    }
}

/// How a flight ended: a closed list that a peer cannot forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// A result.
    Result = 1,
    /// The peer's error, whatever its code looks like.
    Error,
    /// Cancelled; the record says by whom.
    Cancelled,
    /// The handler opted out of its cancel and finished.
    Declined,
    /// No answer and no progress for the idle timeout.
    IdleTimeout,
    /// No answer within the maximum timeout.
    MaxTimeout,
    /// The peer closed the channel.
    PeerClosed,
    /// The peer's process exited; the record carries its exit code.
    PeerExited,
    /// The peer left our pings without an answer (PNG-10).
    PeerSilent,
    /// We closed the connection.
    Closed,
    /// We closed the connection, since it held the most when all together held more than `max_total_bytes`.
    Evicted,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Outcome; 11] = [
        Outcome::Result,
        Outcome::Error,
        Outcome::Cancelled,
        Outcome::Declined,
        Outcome::IdleTimeout,
        Outcome::MaxTimeout,
        Outcome::PeerClosed,
        Outcome::PeerExited,
        Outcome::PeerSilent,
        Outcome::Closed,
        Outcome::Evicted,
    ];

    /// The name used in records, exceptions, metrics and spans.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Result => "result",
            Outcome::Error => "error",
            Outcome::Cancelled => "cancelled",
            Outcome::Declined => "declined",
            Outcome::IdleTimeout => "idle_timeout",
            Outcome::MaxTimeout => "max_timeout",
            Outcome::PeerClosed => "peer_closed",
            Outcome::PeerExited => "peer_exited",
            Outcome::PeerSilent => "peer_silent",
            Outcome::Closed => "closed",
            Outcome::Evicted => "evicted",
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Outcome> {
        match byte {
            0 => None,
            n => Some(Self::ALL[n as usize - 1]),
        }
    }
}

/// Who asked for a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CancelledBy {
    /// The application that sent the request.
    Caller = 1,
    /// The other end, by `notifications/cancelled`.
    Peer,
    /// One of our deadlines.
    Timeout,
    /// The channel ended under it.
    Disconnect,
    /// We are closing.
    Shutdown,
    /// It outgrew a limit.
    Overflow,
    /// A person who saw it in flight.
    Operator,
}

impl CancelledBy {
    /// The name used in records and logs.
    pub const fn name(self) -> &'static str {
        match self {
            CancelledBy::Caller => "caller",
            CancelledBy::Peer => "peer",
            CancelledBy::Timeout => "timeout",
            CancelledBy::Disconnect => "disconnect",
            CancelledBy::Shutdown => "shutdown",
            CancelledBy::Overflow => "overflow",
            CancelledBy::Operator => "operator",
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<CancelledBy> {
        Some(match byte {
            1 => CancelledBy::Caller,
            2 => CancelledBy::Peer,
            3 => CancelledBy::Timeout,
            4 => CancelledBy::Disconnect,
            5 => CancelledBy::Shutdown,
            6 => CancelledBy::Overflow,
            7 => CancelledBy::Operator,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x_07_every_live_state_can_end_and_no_ended_state_can_change() {
        for state in ALL {
            let targets: Vec<FlightState> =
                RULES.iter().filter(|rule| rule.0 == state).map(|rule| rule.2).collect();
            if state.is_live() {
                assert!(targets.iter().any(|next| next.outcome().is_some()), "{state:?} cannot end");
            } else {
                assert!(targets.iter().all(|next| *next == S::Free), "{state:?} changes after its end");
            }
        }
    }

    #[test]
    fn x_09_whatever_runs_can_be_closed_from_either_side() {
        for state in ALL.into_iter().filter(|state| state.is_live()) {
            for event in [E::Closed, E::PeerClosed, E::PeerExited, E::PeerSilent] {
                assert!(state.after(event).is_some_and(|next| next.outcome().is_some()));
            }
        }
    }

    #[test]
    fn rid_04_a_response_cannot_settle_a_request_that_was_never_written() {
        assert_eq!(S::Queued.after(E::Answered), None);
        assert_eq!(S::Queued.after(E::Failed), None);
    }

    #[test]
    fn can_16_a_declining_handler_never_answers() {
        assert_eq!(S::Declining.after(E::Answered), Some(S::Declined));
        assert_eq!(S::Declining.after(E::Failed), Some(S::Declined));
        assert_eq!(S::Declining.after(E::Cancel), None);
    }

    #[test]
    fn outcomes_and_bytes_agree() {
        for state in ALL {
            assert_eq!(FlightState::from_byte(state as u8), state);
        }
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_byte(outcome as u8), Some(outcome));
        }
        assert_eq!(Outcome::from_byte(0), None);
    }
}
