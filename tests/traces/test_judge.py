import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from interp.errors import InterpError
from interp.names import REFLECTION, VERIFICATION
from interp.traces.endpoint import Endpoint, Failure, UnansweredError
from interp.traces.judge import INSTRUCTIONS, failures, judge, judge_all, read_answer, read_cache

TWO = {REFLECTION: 1, VERIFICATION: 2}


def completion(content):
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


class Server(ThreadingHTTPServer):
    """A chat-completions endpoint on a real socket. `script` gives the answers to a text in turn, the last one for
    ever; a text without one is answered by its counts of "hmm" and "check"."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.heard, self.lock = {}, [], threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def reply(self, text):
        if text in self.script:
            replies = self.script[text]
            return replies.pop(0) if len(replies) > 1 else replies[0]
        return completion(json.dumps({REFLECTION: text.count("hmm"), VERIFICATION: text.count("check")}))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.heard.append((self.path, self.headers.get("Authorization"), body))
            reply = self.server.reply(body["messages"][-1]["content"])
        if reply is None:  # hang up
            return
        self.send_response(reply[0])
        self.send_header("Content-Length", str(len(reply[1].encode())))
        self.end_headers()
        self.wfile.write(reply[1].encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def at(server, **changes):
    return Endpoint(**{"base_url": server.url, "model": "m", "pause": 0.001, "timeout": 5.0, "attempts": 3, **changes})


def test_what_is_asked(server, monkeypatch):
    monkeypatch.setenv("SECRET", "sesame")
    assert judge("hmm check check", at(server, key_variable="SECRET")) == TWO
    assert judge("hmm check check", at(server, base_url=server.url + "/")) == TWO
    (path, key, body), (path_again, no_key, _) = server.heard
    assert path == path_again == "/v1/chat/completions"
    assert (key, no_key) == ("Bearer sesame", None)
    assert (body["model"], body["temperature"]) == ("m", 0)
    assert body["messages"] == [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": "hmm check check"},
    ]


@pytest.mark.parametrize(
    "trouble",
    [
        (500, "oops"),
        (503, ""),
        (429, "slow down"),
        (408, ""),
        None,
        (200, "{}"),
        (200, "no json"),
        completion("Two."),
        completion(None),
    ],
)
def test_trouble_that_passes_is_tried_again(server, trouble):
    server.script["t"] = [trouble, trouble, completion(json.dumps(TWO))]
    assert judge("t", at(server)) == TWO
    assert len(server.heard) == 3
    server.script["t"] = [trouble]
    failure = judge("t", at(server))
    assert isinstance(failure, Failure) and failure.failed and "\n" not in failure.failed
    assert len(server.heard) == 6


def test_a_request_that_is_refused_is_not_sent_again(server):
    server.script["long"] = [(400, '{"error": "context\nlength"}')]
    failure = judge("long", at(server))
    assert isinstance(failure, Failure)
    assert failure.failed == 'HTTP 400 {"error": "context length"}'
    assert len(server.heard) == 1


def test_a_slow_answer_is_a_failure_of_its_rollout(server):
    hold = threading.Event()
    reply, server.reply = server.reply, lambda text: (hold.wait(5), reply(text))[1]
    failure = judge("t", at(server, timeout=0.05, attempts=1))
    hold.set()
    assert isinstance(failure, Failure) and "timed out" in failure.failed


def test_pauses_double(server, monkeypatch):
    slept = []
    monkeypatch.setattr("interp.traces.endpoint.time.sleep", slept.append)
    server.script["t"] = [(500, "")]
    judge("t", at(server, attempts=5, pause=0.5))
    assert slept == [0.5, 1, 2, 4]


@pytest.mark.parametrize(("status", "named"), [(401, "SECRET"), (403, "SECRET"), (404, "'m'")])
def test_what_the_user_can_mend_stops_the_run(server, tmp_path, status, named):
    server.script = {str(i): [(status, "no")] for i in range(50)}
    with pytest.raises(InterpError, match=named) as caught:
        judge_all([str(i) for i in range(50)], at(server, key_variable="SECRET", workers=2), tmp_path / "j.jsonl")
    assert server.url in str(caught.value)
    assert len(server.heard) < 50


def test_no_endpoint_and_no_address(tmp_path):
    with Server() as closed:
        url = closed.url
    for address, named in ((url, "start the endpoint"), ("localhost:8000", "http://"), ("file:///etc", "http://")):
        with pytest.raises(InterpError, match=named):
            judge("t", Endpoint(address, "m", attempts=2, pause=0.001, timeout=2.0))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        '{"reflection": 1}',
        '{"reflection": 1, "verification": 2, "why": ""}',
        '{"reflection": 1.0, "verification": 2}',
        '{"reflection": true, "verification": 2}',
        '{"reflection": -1, "verification": 2}',
        '{"reflection": "1", "verification": 2}',
        '```json\n{"reflection": 1, "verification": 2}\n```',
    ],
)
def test_only_the_two_counts_are_an_answer(content):
    assert read_answer(' {"verification": 2,\n"reflection": 1} ') == TWO
    with pytest.raises(UnansweredError, match="not the two counts"):
        read_answer(content)


def test_failures_are_counted_and_named_and_tried_again_by_the_next_run(server, tmp_path):
    texts, heard = ["hmm", "bad", "check", "hmm", "worse"], []
    server.script = {"bad": [(500, "down")], "worse": [completion("?")]}
    answers = judge_all(texts, at(server), tmp_path / "j.jsonl", heard.append)
    assert [isinstance(a, Failure) for a in answers] == [False, True, False, False, True]
    assert answers[0] == answers[3] == {REFLECTION: 1, VERIFICATION: 0}
    assert failures(answers) == {"HTTP 500 down": 1, "not the two counts: '?'": 1}
    assert sum(heard) == len(texts)
    assert len(server.heard) == 2 + 2 * 3, "equal texts are asked about once"
    server.script = {}
    assert judge_all(texts, at(server), tmp_path / "j.jsonl")[1] == {REFLECTION: 0, VERIFICATION: 0}
    assert len(server.heard) == 2 + 2 * 3 + 2


def test_an_interrupted_run_goes_on_where_it_was(server, tmp_path):
    cache, texts = tmp_path / "j.jsonl", [f"hmm {i}" for i in range(6)]
    first = judge_all(texts[:4], at(server), cache)
    whole = cache.read_text()
    cache.write_text(whole[:-9])  # killed while it wrote the fourth answer
    done = judge_all(texts, at(server), cache)
    assert done[:4] == first
    assert len(server.heard) == 4 + 1 + 2
    assert len(read_cache(cache)) == 6
    assert judge_all(texts, at(server), cache) == done
    assert len(server.heard) == 7, "nothing is asked twice"


def test_another_judge_is_asked_anew(server, tmp_path):
    judge_all(["hmm"], at(server), tmp_path / "j.jsonl")
    judge_all(["hmm"], at(server, model="other"), tmp_path / "j.jsonl")
    assert [body["model"] for _, _, body in server.heard] == ["m", "other"]


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"key": "k"}', '{"reflection": 1, "verification": 2}', ""])
def test_a_damaged_cache_is_named(tmp_path, line):
    cache = tmp_path / "j.jsonl"
    cache.write_text(json.dumps({"key": "k", **TWO}) + f"\n{line}\n")
    with pytest.raises(InterpError, match=r"j\.jsonl:2"):
        read_cache(cache)
