//! What a revision forbids us to send, and how that is said.

/// Something the revision forbids us to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// 2026-07-28: servers initiate no requests (RID-14).
    ServerRequest,
    /// 2026-07-28: progress flows from server to client only (PRG-22).
    ClientProgress,
    /// 2026-07-28: nothing is sent on a subscription before its acknowledgment (SUB-03).
    NotAcknowledged,
    /// 2026-07-28: a server cancels nothing but a listen, and that by answering it (CAN-29, K1).
    ServerCancel,
    /// A cancel that no table knows of could name anything (CAN-05, CAN-07, CAN-08).
    ManualCancel,
    /// Progress that names no request could name any (PRG-10).
    ManualProgress,
    /// 2026-07-28: logs and progress belong to their own request, not to a subscription (PRG-24, PRG-25, SUB-17).
    NotOnListen,
    /// Up to 2025-11-25: only `ping` passes before the handshake is over (PNG-13, PNG-14).
    NotInitialized,
    /// 2025-11-25: the peer did not declare that it takes this request as a task (TSK-02, TSK-03).
    NoTask,
}

impl Forbidden {
    /// One sentence, for people.
    pub const fn message(self) -> &'static str {
        match self {
            Forbidden::ServerRequest => {
                "a server sends no requests under revision 2026-07-28; answer with resultType input_required instead"
            }
            Forbidden::ClientProgress => "a client sends no progress under revision 2026-07-28",
            Forbidden::NotAcknowledged => {
                "a subscription starts with notifications/subscriptions/acknowledged; send that first"
            }
            Forbidden::ServerCancel => {
                "a server cancels no request under revision 2026-07-28; it ends a listen by answering it"
            }
            Forbidden::ManualCancel => {
                "a cancel is not sent by hand; call cancel() of the call, which knows whether it is in flight"
            }
            Forbidden::ManualProgress => {
                "progress is not sent by hand; call progress() of the request, which knows its token"
            }
            Forbidden::NotOnListen => {
                "logs and progress are not sent on a subscription; they belong to the request that they are about"
            }
            Forbidden::NotInitialized => {
                "only ping passes before the handshake is over; wait until the peer has sent or taken notifications/initialized"
            }
            Forbidden::NoTask => {
                "the peer did not declare that it takes this request as a task; leave the member task out"
            }
        }
    }
}
