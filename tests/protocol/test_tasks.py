"""Calls that become tasks: whose token lives how long, and what a cancel turns into."""

from __future__ import annotations

import json

import pytest

import turnout
from turnout.records import log_cancel, to_json
from wire import (
    LEGACY,
    MODERN,
    TASK,
    Raw,
    Wire,
    cancelled,
    client,
    created,
    extension,
    notification,
    outcome,
    progress,
    result,
)


def test_prg_18_prg_19_tsk_14_the_token_outlives_the_answer_until_a_terminal_status():
    wire = client()
    seen = []
    call = wire.call(params=TASK)
    call.on_progress(seen.append)
    wire.take(progress(call.id, 1), created(call.id))
    assert outcome(call) == "result"
    assert wire.connection.entries()["tokens"] == 1
    wire.take(progress(call.id, 2))
    assert call.latest.progress == 2
    assert call.record.progress_accepted == 2
    wire.take(notification("notifications/tasks/status", {"taskId": "t1", "status": "completed"}))
    wire.take(progress(call.id, 3))
    assert call.latest.progress == 2
    assert wire.at_rest


@pytest.mark.parametrize(("revision", "answer"), [(LEGACY[-1], created), (MODERN, extension)])
def test_tsk_10_an_id_that_is_given_again_ends_the_older_task(revision, answer):
    """Nobody could end it by its id any more, and a hostile server would pile up such."""
    wire = Wire(revision, "client")
    calls = []
    for number in range(1, 6):
        call = wire.call(params=TASK)
        call.on_progress(lambda _, number=number: calls.append(number))
        wire.take(answer(call.id))
        assert outcome(call) == "result"
    assert wire.connection.entries()["tokens"] == 1
    for number in range(1, 6):
        wire.take(progress(number, 1))
    assert calls == ([5] if revision == LEGACY[-1] else [])
    wire.take(notification("notifications/tasks/status", {"taskId": "t1", "status": "completed"}))
    assert wire.at_rest


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("source", ["notification", "tasks/get"])
@pytest.mark.parametrize(("revision", "answer", "told"), [
    (LEGACY[-1], created, "notifications/tasks/status"), (MODERN, extension, "notifications/tasks"),
])  # fmt: skip
def test_prg_21_tsk_41_tsk_43_tsx_21_tsx_49_tsx_50_either_source_of_a_terminal_status_frees_the_task(
    status, source, revision, answer, told
):
    wire = Wire(revision, "client")
    call = wire.call(params=TASK)
    wire.take(answer(call.id))
    if source == "notification":
        wire.take(notification(told, {"taskId": "t1", "status": status}))
    else:
        poll = wire.call("tasks/get", {"taskId": "t1"})
        wire.take(result(poll.id, {"taskId": "t1", "status": status}))
    assert wire.at_rest


@pytest.mark.parametrize("status", ["working", "input_required", "made_up", 7])
def test_prg_19_no_other_status_frees_it(status):
    wire = client()
    call = wire.call(params=TASK)
    wire.take(created(call.id))
    wire.take(notification("notifications/tasks/status", {"taskId": "t1", "status": status}))
    wire.take(notification("notifications/tasks/status", {"taskId": "other", "status": "completed"}))
    wire.take(progress(call.id, 1))
    assert call.latest.progress == 1


@pytest.mark.parametrize("most", [1, 100])
def test_tsk_45_tsk_44_a_task_past_its_time_to_live_frees_everything(most):
    wire = client()
    call = wire.call(params=TASK, max_timeout=most)
    wire.take(created(call.id, ttl=5000))
    wire.later(4.9)
    assert wire.connection.entries()["tokens"] == 1
    wire.later(0.2)
    assert outcome(call) == "result"
    assert wire.at_rest


@pytest.mark.parametrize("ttl", ["null", "-1", "1e999", '"x"', "1e300", "[]"])
def test_tsk_44_a_strange_time_to_live_harms_nothing(ttl):
    wire = client()
    call = wire.call(params=TASK)
    wire.take(created(call.id, ttl=Raw(ttl)))
    assert outcome(call) == "result"
    wire.later(1)
    assert wire.answers
    wire.connection.end()
    assert wire.at_rest


def test_tsx_58_tsx_60_each_era_knows_its_own_shape_only():
    wire = client()
    call = wire.call(params=TASK)
    wire.take(extension(call.id))
    assert wire.at_rest
    late = wire.call(params=TASK)
    late.cancel()
    wire.take(extension(late.id))
    assert wire.written() == []
    modern = Wire(MODERN, "client")
    call = modern.call(params=TASK)
    modern.take(created(call.id))
    assert modern.at_rest


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "completion/complete"])
def test_tsx_03_tsx_04_a_task_answers_a_supported_request_only(method):
    wire = Wire(MODERN, "client")
    call = wire.call(method)
    wire.take(extension(call.id))
    assert (call.exception() is None) is (method == "tools/call")


def test_tsk_13_a_terminal_status_is_the_last_word():
    wire = client()
    call = wire.call(params=TASK)
    wire.take(created(call.id))
    for status in ("completed", "working", "cancelled"):
        wire.take(notification("notifications/tasks/status", {"taskId": "t1", "status": status}))
        assert wire.at_rest
    wire.take(progress(call.id, 1))
    assert call.latest is None
    assert call.cancel() is False


def test_tsk_34_a_task_is_named_by_its_own_id_whatever_meta_says():
    wire = client()
    call = wire.call(params=TASK)
    wire.take(created(call.id))
    meta = {"io.modelcontextprotocol/related-task": {"taskId": "t1"}}
    poll = wire.call("tasks/get", {"taskId": "other"})
    wire.take(result(poll.id, {"taskId": "other", "status": "completed", "_meta": meta}))
    assert wire.connection.entries()["tokens"] == 1


def test_tsk_16_a_blocked_tasks_result_is_cancelled_without_the_task():
    wire = client()
    call = wire.call(params=TASK)
    wire.take(created(call.id))
    blocked = wire.call("tasks/result", {"taskId": "t1"})
    blocked.cancel("not waiting")
    assert [m["method"] for m in wire.written()] == ["notifications/cancelled"]
    assert wire.connection.entries()["tokens"] == 1


def test_x_08_the_end_of_the_connection_frees_tasks_too():
    wire = client()
    call = wire.call(params=TASK)
    wire.take(created(call.id))
    wire.connection.end("peer_closed")
    assert outcome(call) == "result"
    assert wire.at_rest


@pytest.mark.parametrize("source", ["notification", "tasks/get"])
@pytest.mark.parametrize(("revision", "answer", "name"), [
    (LEGACY[-1], created, "ttl"), (MODERN, extension, "ttlMs"),
])  # fmt: skip
def test_tsk_44_tsk_45_tsk_48_tsx_34_tsx_36_the_time_to_live_that_was_told_last_counts(
    source, revision, answer, name
):
    wire = Wire(revision, "client")
    call = wire.call(params=TASK)
    told = {"taskId": "t1", "status": "working"}
    wire.take(answer(call.id, ttl=1000, ttlMs=1000))

    def tell(ttl):
        if source == "notification":
            method = "notifications/tasks" if revision == MODERN else "notifications/tasks/status"
            wire.take(notification(method, {**told, name: ttl}))
        else:
            poll = wire.call("tasks/get", {"taskId": "t1"})
            wire.take(result(poll.id, {**told, name: ttl}))

    wire.later(0.9)
    tell(5000)
    wire.later(4)
    assert wire.connection.entries()["tokens"] == 1
    tell(None)
    wire.later(1000)
    assert wire.connection.entries()["tokens"] == 1
    tell(1_000_000)
    assert wire.connection.entries()["tokens"] == 1
    tell(3000)
    wire.later(0.2)
    assert wire.at_rest


@pytest.mark.parametrize(("revision", "answer"), [(LEGACY[-1], created), (MODERN, extension)])
def test_tsk_60_tsx_23_the_record_links_the_request_its_token_and_its_task(revision, answer):
    wire = Wire(revision, "client")
    call, late, plain = wire.call(params=TASK), wire.call(params=TASK), wire.call(params=TASK)
    late.cancel()
    wire.take(answer(call.id, 'odd "id"'), answer(late.id, "t2"), result(plain.id, {"content": []}))
    assert (call.record.id, call.record.token, call.record.task) == (call.id, call.id, 'odd "id"')
    assert (late.record.task, plain.record.task) == ("t2", None)
    assert json.loads(to_json(call.record))["task"] == 'odd "id"'


def test_tsx_58_a_legacy_server_makes_no_task_of_the_extensions_shape():
    wire = Wire(LEGACY[-1], "server")
    asked = wire.ask(1, token="t", **TASK)
    asked.respond({"resultType": "task", "taskId": "t1", "status": "working"})
    assert asked.progress(1) == "over"
    assert asked.record.task is None
    assert wire.at_rest


def test_tsx_57_no_log_line_names_a_task(caplog):
    """A task's id may be what opens it to anyone."""
    for revision, answer in ((LEGACY[-1], created), (MODERN, extension)):
        wire = Wire(revision, "client")
        wire.connection.follow_records(lambda records: [log_cancel(record) for record in records])
        during, after = wire.call(params=TASK), wire.call(params=TASK)
        with caplog.at_level("DEBUG"):
            wire.take(answer(after.id, "secret-task"))
            during.cancel("stop")
            after.cancel("stop")
            wire.take(answer(during.id, "secret-task"))
            log_cancel(after.record)
        assert during.record.task == after.record.task == "secret-task"
    assert "stop" in caplog.text
    assert "secret-task" not in caplog.text
    assert "secret-task" not in repr(after.record) + repr(after)


def test_tsk_59_the_record_of_a_request_that_became_a_task_says_so():
    wire = Wire(LEGACY[-1], "server")
    for token in (None, "t"):
        asked = wire.ask(1, token=token, **TASK)
        asked.respond({"task": {"taskId": "t7", "status": "working"}})
        assert (asked.record.outcome, asked.record.task) == ("result", "t7")
    ordinary = wire.ask(2)
    ordinary.respond({"task": {"taskId": "not one"}})
    assert ordinary.record.task is None


def test_tsk_08_a_task_id_that_is_no_string_is_no_task():
    wire = client()
    call = wire.call(params=TASK)
    wire.take(result(call.id, {"task": {"taskId": 7}}))
    assert outcome(call) == "result"
    assert wire.at_rest


def test_prg_03_a_token_held_by_a_task_is_not_given_twice():
    wire = client()
    call = wire.call(params={**TASK, "_meta": {"progressToken": "mine"}})
    wire.take(created(call.id))
    with pytest.raises(turnout.NotAllowed):
        wire.connection.send("tools/call", {"_meta": {"progressToken": "mine"}})
    wire.take(progress("mine", 1))
    assert call.latest.progress == 1


def test_two_tasks_under_one_id_do_not_confuse_the_tables():
    wire = client()
    one, two = wire.call(params=TASK), wire.call(params=TASK)
    wire.take(created(one.id, "same"), created(two.id, "same"))
    wire.take(notification("notifications/tasks/status", {"taskId": "same", "status": "completed"}))
    wire.later(10_000)
    wire.connection.end()
    assert wire.at_rest


def test_prg_18_progress_of_the_task_reaches_the_callbacks_of_its_call_until_the_task_is_over():
    wire = client()
    seen = []
    call = wire.connection.send("tools/call", TASK, on_progress=lambda update: seen.append(update.progress))
    wire.raw()
    wire.take(progress(call.id, 1), created(call.id), progress(call.id, 2))
    assert call.done()
    wire.take(progress(call.id, 3))
    wire.take(notification("notifications/tasks/status", {"taskId": "t1", "status": "completed"}))
    wire.take(progress(call.id, 4))
    assert seen == [1, 2, 3]


def test_prg_18_prg_20_prg_21_tsk_14_a_server_keeps_the_token_of_a_task_it_made_until_it_says_so():
    wire = Wire(LEGACY[-1], "server")
    asked = wire.ask(1, token="t", **TASK)
    asked.progress(1)
    asked.respond({"task": {"taskId": "t1", "status": "working"}})
    assert asked.progress(2) == "sent"
    assert asked.finish_task() is True
    assert asked.progress(3) == "over"
    assert asked.finish_task() is False
    told = [m["params"] for m in wire.written() if m.get("method") == "notifications/progress"]
    assert told == [{"progressToken": "t", "progress": 1}, {"progressToken": "t", "progress": 2}]
    assert wire.at_rest


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("told", ["notification", "tasks/get", "tasks/cancel"])
def test_prg_21_what_we_say_of_a_task_that_is_over_stops_its_progress(status, told):
    wire = Wire(LEGACY[-1], "server")
    asked, other = wire.ask(1, token="t", **TASK), wire.ask(2, token="u", **TASK)
    for request, task in ((asked, 'odd "id"'), (other, "t2")):
        request.respond({"task": {"taskId": task, "status": "working"}})

    def tell(task, status):
        if told == "notification":
            wire.connection.notify("notifications/tasks/status", {"taskId": task, "status": status})
        else:
            wire.ask(9, told, taskId=task).respond({"taskId": task, "status": status})

    for task, said in (('odd "id"', "working"), ('odd "id"', 7), ("unknown", status)):
        tell(task, said)
        assert asked.progress(asked.record.progress_accepted + 1) == "sent"
    wire.written()
    # Progress that waits for the transport goes ahead of the word after which there is none.
    wire.connection.pause_writing()
    asked.progress(10)
    tell('odd "id"', status)
    assert asked.progress(11) == "over"
    wire.connection.resume_writing()
    assert asked.finish_task() is False
    last, *_, word = wire.written()
    assert last["params"] == {"progressToken": "t", "progress": 10}
    assert word.get("params", word.get("result"))["status"] == status
    assert other.progress(1) == "sent"
    tell("t2", status)
    assert wire.at_rest


def test_prg_21_a_refused_tasks_get_ends_no_task():
    wire = Wire(LEGACY[-1], "server")
    asked = wire.ask(1, token="t", **TASK)
    asked.respond({"task": {"taskId": "t1", "status": "working"}})
    wire.ask(2, "tasks/get", taskId="t1").fail(-32602, "no", {"taskId": "t1", "status": "completed"})
    late = wire.ask(3, "tasks/get", taskId="t1")
    wire.take(cancelled(3))
    late.respond({"taskId": "t1", "status": "completed"})
    assert asked.progress(1) == "sent"


@pytest.mark.parametrize("chosen", [None, True, False])
@pytest.mark.parametrize(("revision", "answer"), [(LEGACY[-1], created), (MODERN, extension)])
def test_k2_progress_of_a_task_goes_by_the_era_unless_chosen(revision, answer, chosen):
    wire = Wire(revision, "client", **({} if chosen is None else {"task_progress": chosen}))
    call = wire.call(params=TASK)
    wire.take(progress(call.id, 1), answer(call.id), progress(call.id, 2))
    goes_on = revision == LEGACY[-1] if chosen is None else chosen
    assert call.latest.progress == (2 if goes_on else 1)
    assert wire.counts["late_progress"] == (0 if goes_on else 1)


def test_requests_go_on_when_every_slot_is_held_by_a_task():
    """Tasks hold their slots without being in flight: the table grows around them."""
    wire = Wire(LEGACY[-1], "client", limits={"max_tasks": 1000})
    for n in range(500):
        call = wire.call(params=TASK, progress=True)
        wire.take(result(call.id, {"task": {"taskId": f"task {n}", "status": "working"}}))
        assert call.record.outcome == "result"
    assert wire.connection.in_flight == (0, 0)
    assert wire.answers


def test_tsk_07_a_second_answer_to_what_became_a_task_is_nobodys_and_leaves_the_task():
    wire = Wire(LEGACY[-1], "client")
    call = wire.call(params=TASK)
    wire.take(created(call.id), result(call.id, {"again": 1}))
    assert call.record.outcome == "result"
    assert call.record.late_response is None
    assert (wire.counts["unmatched_responses"], wire.counts["late_responses"]) == (1, 0)
    assert call.cancel("stop") is True
    assert [message["method"] for message in wire.written()] == ["tasks/cancel"]


@pytest.mark.parametrize("most", [3, 10, 100])
def test_prg_18_tokens_of_tasks_that_we_made_are_kept_up_to_max_inbound(most):
    """A client that makes tasks without end does not make us remember all of their tokens."""
    wire = Wire(LEGACY[-1], "server", limits={"max_inbound": most})
    kept = []
    for n in range(200):
        asked = wire.ask(n, token=f"t{n}", **TASK)
        asked.respond({"task": {"taskId": f"task {n}", "status": "working"}})
        kept.append(asked.progress(1) == "sent")
        wire.raw()
    assert most / 2 <= sum(kept) <= most
    assert wire.connection.entries()["inbound"] == sum(kept)
    assert wire.answers
