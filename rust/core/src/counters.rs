//! What a connection counts, beside the outcomes of its flights.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Plain counts since the connection was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter's name and value.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Frames read.
    frames_in,
    /// Frames refused: not JSON, not JSON-RPC, over a limit.
    frames_refused,
    /// Lines longer than `max_frame_bytes`.
    frames_oversized,
    /// Bytes read.
    bytes_in,
    /// Bytes handed to the transport.
    bytes_out,
    /// Requests of ours.
    requests_out,
    /// Requests of the peer's that were taken.
    requests_in,
    /// Requests of the peer's whose id was in flight already.
    duplicate_ids,
    /// Requests of the peer's beyond `max_inbound`.
    overloaded,
    /// Errors, pongs and short answers not written because the output was full.
    replies_dropped,
    /// Messages the revision does not allow the peer to send.
    violations,
    /// Pings answered.
    pings,
    /// Cancels written.
    cancels_out,
    /// Cancels of the peer's that stopped a request.
    cancels_in,
    /// Cancels of the peer's for a request that had ended (CAN-15).
    cancels_too_late,
    /// Cancels of the peer's that named nothing, or nothing that can be cancelled (CAN-14, CAN-16).
    cancels_ignored,
    /// Answers that came after their call had ended.
    late_responses,
    /// Answers to nothing we asked.
    unmatched_responses,
    /// Progress taken.
    progress_in,
    /// Progress dropped: not a number, not growing.
    progress_dropped,
    /// Progress for no token of ours.
    progress_unmatched,
    /// Progress that came after the end.
    late_progress,
    /// Progress sent.
    progress_out,
    /// Answers that waited for their progress to be read.
    answers_delayed,
    /// Progress replaced by newer progress before it was sent.
    progress_coalesced,
    /// Tasks beyond `max_tasks`: their calls cannot cancel them.
    tasks_not_kept,
    /// Tasks cancelled because they answered a cancelled request (K6).
    late_tasks_cancelled,
}
