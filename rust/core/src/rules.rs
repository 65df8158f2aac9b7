//! The rules of each protocol revision, and the points on which the specification contradicts itself.
//!
//! No other file compares revisions: the connection asks a question, a method here answers. The six
//! contradictions of the sources (K1 to K6) are decided here, once; [`Choices`] switches them.

mod bridge;
mod era;
mod forbidden;
mod meta;
mod revision;

pub use bridge::{Bridge, RequiredMember, drops_member_of_item, is_cacheable, required};
pub use era::{Era, EraClaim, EraError};
pub use forbidden::Forbidden;
pub use meta::{Carrier, ENVELOPE};
pub use revision::Revision;

/// Our role on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Unknown: what only one role may do is allowed.
    Either,
    /// We opened the connection and ask.
    Client,
    /// We answer.
    Server,
}

/// Where the sources disagree (K1 to K6), this is how we decide.
///
/// K3, how the stream of a cancelled request ends, is a question of Streamable HTTP only and comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // switches, independent of each other
pub struct Choices {
    /// K1: a server that ends a `subscriptions/listen` sends `notifications/cancelled` behind the result, unless the
    /// listen has a stream of its own, which ends then. A client accepts a result, a cancel and a plain close alike.
    pub listen_end_sends_cancelled: bool,
    /// K2: whether progress goes on after the task was created; None leaves it to the era: yes under 2025-11-25,
    /// no under the extension.
    pub task_progress: Option<bool>,
    /// K4: whether the end of the peer's channel stops the handlers of what it had in flight. A byte stream that
    /// ended can carry no answer, so they are stopped in every era; switched off, they work on and their answers
    /// are lost. Streamable HTTP, where a channel can come back, will ask the era.
    pub disconnect_cancels: bool,
    /// K5: whether progress that does not increase is dropped (the page: MUST) or taken (the schema: should).
    pub progress_must_increase: bool,
    /// K5: whether `server/discover` is cancelled like any request; off, because a legacy server may not
    /// know the method and its answer decides the era.
    pub cancel_discover: bool,
    /// K6: whether a `CreateTaskResult` that answers a cancelled request is followed by `tasks/cancel`.
    pub cancel_late_tasks: bool,
    /// Whether `ping` is answered at once; off, it is a request like any other, for a host that has its own answer.
    pub answer_ping: bool,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            listen_end_sends_cancelled: true,
            task_progress: None,
            disconnect_cancels: true,
            progress_must_increase: true,
            cancel_discover: false,
            cancel_late_tasks: true,
            answer_ping: true,
        }
    }
}

/// Requests that a side accepts as tasks under 2025-11-25, as declared in `capabilities.tasks`.
///
/// No other request becomes a task, whatever its `task` member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // the protocol's own list
pub struct TaskSupport {
    /// `tools/call`.
    pub tools: bool,
    /// `sampling/createMessage`.
    pub sampling: bool,
    /// `elicitation/create`.
    pub elicitation: bool,
    /// Whether `tasks/cancel` is accepted.
    pub cancel: bool,
}

impl TaskSupport {
    /// What is assumed of a side that was not asked.
    pub const ALL: TaskSupport = TaskSupport { tools: true, sampling: true, elicitation: true, cancel: true };

    fn accepts(self, method: &str) -> Option<bool> {
        Some(match method {
            "tools/call" => self.tools,
            "sampling/createMessage" => self.sampling,
            method::ELICIT => self.elicitation,
            _ => return None,
        })
    }
}

/// How a request of ours is cancelled at the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelMethod {
    /// By `notifications/cancelled`.
    Notify,
    /// Not at all: the request ends on our side only.
    Silent,
    /// By `tasks/cancel`, as soon as the task's id is known (TSK-07).
    Task,
}

/// The rules of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The negotiated revision; the newest legacy one until it is known.
    pub revision: Revision,
    /// Our part.
    pub role: Role,
    /// How contradictions of the specification are decided.
    pub choices: Choices,
    /// Whether the handshake of a legacy revision is over, or none is required.
    pub initialized: bool,
    /// Where the era of the peer's requests is known from.
    pub era: Era,
    /// Which of the peer's requests we take as tasks.
    pub our_tasks: TaskSupport,
    /// Which of our requests the peer takes as tasks.
    pub their_tasks: TaskSupport,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            revision: Revision::V2025_11_25,
            role: Role::Either,
            choices: Choices::default(),
            initialized: true,
            era: Era::Host,
            our_tasks: TaskSupport::ALL,
            their_tasks: TaskSupport::ALL,
        }
    }
}

/// Methods that the rules name.
pub mod method {
    #![allow(missing_docs)]
    pub const CANCELLED: &str = "notifications/cancelled";
    pub const PROGRESS: &str = "notifications/progress";
    pub const MESSAGE: &str = "notifications/message";
    pub const INITIALIZE: &str = "initialize";
    pub const INITIALIZED: &str = "notifications/initialized";
    pub const DISCOVER: &str = "server/discover";
    pub const LISTEN: &str = "subscriptions/listen";
    pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
    pub const PING: &str = "ping";
    pub const TASKS_GET: &str = "tasks/get";
    pub const TASKS_CANCEL: &str = "tasks/cancel";
    pub const TASKS_RESULT: &str = "tasks/result";
    pub const TASKS_LIST: &str = "tasks/list";
    pub const TASKS: &str = "notifications/tasks";
    pub const TASK_STATUS: &str = "notifications/tasks/status";
    pub const ELICIT: &str = "elicitation/create";
}

impl Rules {
    /// May we send this request?
    pub fn may_request(&self, method: &str) -> Result<(), Forbidden> {
        if self.revision.is_modern() {
            return if self.role == Role::Server { Err(Forbidden::ServerRequest) } else { Ok(()) };
        }
        if self.initialized || matches!(method, method::PING | method::INITIALIZE | method::DISCOVER) {
            Ok(())
        } else {
            Err(Forbidden::NotInitialized)
        }
    }

    /// Is a request of the peer's accepted? A modern client drops one without an answer (RID-14, TRS-07).
    pub fn accepts_requests(&self) -> bool {
        !(self.revision.is_modern() && self.role == Role::Client)
    }

    /// Is a response of the peer's accepted? Modern clients send none (RID-15, TRS-08).
    pub fn accepts_responses(&self) -> bool {
        !(self.revision.is_modern() && self.role == Role::Server)
    }

    /// May we report progress?
    pub fn may_progress(&self) -> Result<(), Forbidden> {
        if self.revision.is_modern() && self.role == Role::Client {
            return Err(Forbidden::ClientProgress);
        }
        Ok(())
    }

    /// May we send this notification by hand?
    pub fn may_notify(&self, method: &str) -> Result<(), Forbidden> {
        match method {
            method::PROGRESS => self.may_progress().and(Err(Forbidden::ManualProgress)),
            method::CANCELLED if self.revision.is_modern() && self.role == Role::Server => {
                Err(Forbidden::ServerCancel)
            }
            method::CANCELLED => Err(Forbidden::ManualCancel),
            _ => Ok(()),
        }
    }

    /// May we send this notification on a listen of the peer's?
    pub fn may_notify_subscriber(&self, method: &str) -> Result<(), Forbidden> {
        match method {
            method::PROGRESS | method::MESSAGE => Err(Forbidden::NotOnListen),
            _ => self.may_notify(method),
        }
    }

    /// Does a cancel follow our answer to this request (K1, CAN-28, SUB-11)?
    pub fn ends_listen_with_cancelled(&self, method: &str) -> bool {
        self.choices.listen_end_sends_cancelled
            && self.revision.is_modern()
            && self.role != Role::Client
            && method == method::LISTEN
    }

    /// Is progress of the peer's accepted (PRG-22)?
    pub fn accepts_progress(&self) -> bool {
        !(self.revision.is_modern() && self.role == Role::Server)
    }

    /// Does progress carry a message (PRG-06)?
    pub fn progress_has_message(&self) -> bool {
        self.revision > Revision::V2024_11_05
    }

    /// Are arrays of messages accepted (BAT-02, BAT-05)?
    pub fn accepts_batches(&self) -> bool {
        self.revision == Revision::V2025_03_26
    }

    /// Is `ping`, which modern revisions do not have, answered without asking anyone (PNG-01)?
    pub fn answers_ping(&self) -> bool {
        !self.revision.is_modern() && self.choices.answer_ping
    }

    /// Must every result say its type (RID-16 to RID-18)?
    pub fn has_result_type(&self) -> bool {
        self.revision.is_modern()
    }

    /// May this request be answered with a result of that type, if it is one that the protocol knows (MRT-02, TSX-04)?
    pub fn may_end_with(&self, method: &str, result_type: &str) -> Option<bool> {
        match result_type {
            "complete" => Some(true),
            "input_required" => Some(matches!(method, "tools/call" | "prompts/get" | "resources/read")),
            "task" => Some(method == "tools/call"),
            _ => None,
        }
    }

    /// Does a token outlive a `CreateTaskResult` (K2, PRG-18 to PRG-21, PRG-25)?
    pub fn token_outlives_task_creation(&self) -> bool {
        self.choices.task_progress.unwrap_or(self.revision == Revision::V2025_11_25)
    }

    /// Does the end of the peer's channel stop what we do for it (K4)?
    pub fn disconnect_cancels(&self) -> bool {
        self.choices.disconnect_cancels
    }

    /// Is a request with a `task` member augmented (TSK-07, TSX-60)?
    pub fn has_task_augmentation(&self) -> bool {
        self.revision == Revision::V2025_11_25
    }

    /// Does a `task` member make a task of this request of ours (TSK-02, TSK-03)?
    pub fn may_augment(&self, method: &str) -> Result<bool, Forbidden> {
        match self.their_tasks.accepts(method) {
            Some(true) => Ok(true),
            Some(false) if self.has_task_augmentation() => Err(Forbidden::NoTask),
            _ => Ok(false),
        }
    }

    /// Does a `task` member make a task of this request of the peer's (TSK-04)?
    pub fn accepts_task(&self, method: &str) -> bool {
        self.our_tasks.accepts(method) == Some(true)
    }

    /// Does the peer take `tasks/cancel` (TSK-01)? Under the extension it always does.
    pub fn peer_cancels_tasks(&self) -> bool {
        self.their_tasks.cancel || !self.has_task_augmentation()
    }

    /// How a cancel of our request leaves (CAN-10, TSK-07, K5).
    pub fn cancel_method(&self, method: &str, augmented: bool) -> CancelMethod {
        match method {
            method::INITIALIZE => CancelMethod::Silent,
            method::DISCOVER if !self.choices.cancel_discover => CancelMethod::Silent,
            _ if augmented && self.has_task_augmentation() => CancelMethod::Task,
            _ => CancelMethod::Notify,
        }
    }

    /// May the peer cancel this request of its own (CAN-06, CAN-10)?
    pub fn peer_may_cancel(&self, method: &str, augmented: bool) -> bool {
        !(method == method::INITIALIZE || augmented && self.has_task_augmentation())
    }

    /// Where each request has a stream, does closing that cancel it, and nothing else (TRM-01)? An id names no request
    /// then: the clients of one connection are not known from each other, and each chooses ids by itself.
    pub fn cancels_by_stream(&self) -> bool {
        self.revision.is_modern()
    }

    /// Does a peer's cancel name a request of *ours*: a server that ends our listen (CAN-28 to CAN-30)?
    pub fn peer_may_end(&self, method: &str) -> bool {
        self.revision.is_modern() && self.role != Role::Server && method == method::LISTEN
    }

    /// Does the request have no result deadline (SUB-13)?
    pub fn is_open_ended(&self, method: &str) -> bool {
        self.revision.is_modern() && method == method::LISTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(revision: Revision, role: Role) -> Rules {
        Rules { revision, role, ..Rules::default() }
    }

    #[test]
    fn can_10_initialize_is_never_cancelled() {
        for revision in Revision::ALL {
            assert_eq!(
                rules(revision, Role::Client).cancel_method("initialize", false),
                CancelMethod::Silent
            );
            assert!(!rules(revision, Role::Server).peer_may_cancel("initialize", false));
        }
    }

    #[test]
    fn k5_discover_is_not_cancelled_unless_chosen() {
        let mut rules = rules(Revision::V2026_07_28, Role::Client);
        assert_eq!(rules.cancel_method("server/discover", false), CancelMethod::Silent);
        rules.choices.cancel_discover = true;
        assert_eq!(rules.cancel_method("server/discover", false), CancelMethod::Notify);
    }

    #[test]
    fn tsk_07_task_augmentation_exists_in_one_revision() {
        for revision in Revision::ALL {
            let how = rules(revision, Role::Client).cancel_method("tools/call", true);
            let expected =
                if revision == Revision::V2025_11_25 { CancelMethod::Task } else { CancelMethod::Notify };
            assert_eq!(how, expected);
        }
    }

    #[test]
    fn rid_14_modern_servers_do_not_ask() {
        assert_eq!(
            rules(Revision::V2026_07_28, Role::Server).may_request("ping"),
            Err(Forbidden::ServerRequest)
        );
        assert!(!rules(Revision::V2026_07_28, Role::Client).accepts_requests());
        for revision in &Revision::ALL[..4] {
            assert_eq!(rules(*revision, Role::Server).may_request("roots/list"), Ok(()));
            assert!(rules(*revision, Role::Client).accepts_requests());
        }
    }

    #[test]
    fn prg_22_modern_progress_flows_one_way() {
        assert_eq!(rules(Revision::V2026_07_28, Role::Client).may_progress(), Err(Forbidden::ClientProgress));
        assert!(!rules(Revision::V2026_07_28, Role::Server).accepts_progress());
        assert_eq!(rules(Revision::V2025_11_25, Role::Client).may_progress(), Ok(()));
    }

    #[test]
    fn can_30_only_a_listen_is_ended_by_the_server() {
        let modern = rules(Revision::V2026_07_28, Role::Client);
        assert!(modern.peer_may_end("subscriptions/listen"));
        assert!(!modern.peer_may_end("tools/call"));
        assert!(!rules(Revision::V2025_11_25, Role::Client).peer_may_end("subscriptions/listen"));
    }
}
