"""Rewards by unit tests and by a judge: what they earn, and what is bounded and named."""

import http.server
import json
import re
import threading
import time
from pathlib import Path

import pytest

from strop.core.errors import ConfigError
from strop.planning.settings import Settings
from strop.training.rewards import RewardError, rewards_of
from strop.training.rewards.unit_tests import Limits, code_of, run

TESTS = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]
ANSWER = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."


def rewarded(name, texts, records, **settings):
    (reward,) = rewards_of(Settings(reward=[name], **settings), records)
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    prompts = [[{"role": "user", "content": "Write add."}] for _ in texts]
    return reward(prompts, completions, [], list(records))


def test_code_earns_the_share_of_tests_that_it_passes():
    half = "def add(a, b):\n    return a * b"
    records = {i: {"tests": TESTS} for i in range(1, 5)} | {5: {"tests": None}}
    texts = [ANSWER, half, "I cannot.", "import sys\nsys.exit()", ANSWER]
    earned = rewarded("unit_tests=tests", texts, records)
    assert earned == [1.0, 0.5, 0.0, 0.0, None]
    assert code_of(ANSWER).startswith("def add")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os\nos.fork()", "starting a process is refused"),
        ("import subprocess\nsubprocess.run(['true'])", "starting a process is refused"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "opening a socket is refused"),
        ("open('../outside', 'w')", "writing outside its folder is refused"),
        ("import time\ntime.sleep(60)", "it took longer than 1 seconds"),
        ("with open('big', 'wb') as f:\n    f.write(bytes(3_000_000))", "too large a file"),
        ("for i in range(9):\n    open(str(i), 'wb').write(bytes(400_000))\nimport time\ntime.sleep(9)",
         "its files took more than 2,000,000 bytes"),
        ("x = bytearray(900_000_000)", "it took too much memory"),
        ("while True:\n    print('x' * 10_000)", "bytes of output|too large a file"),
        ("import os\nos.kill(os.getppid(), 0)", "sending a signal to a process is refused"),
    ],
)  # fmt: skip
def test_code_beyond_its_limits_is_ended_and_named(code, fault):
    limits = Limits(1.0, 300_000_000, 2_000_000, 500_000)
    started = time.monotonic()
    outcome = run(code, TESTS, limits)
    assert outcome.passed == 0
    assert re.search(fault, outcome.fault)
    assert time.monotonic() - started < 20


def test_nothing_of_a_program_is_left_running(tmp_path):
    before = programs()
    run("import time\ntime.sleep(60)", TESTS, Limits(0.3))
    assert programs() <= before


def programs():
    """Return the processes that run code of answers."""
    running = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if "bounded_program" in (entry / "cmdline").read_text():
                running.add(int(entry.name))
        except OSError:
            continue
    return running


@pytest.fixture
def judge(tmp_path):
    """Return a function that starts a judge with some replies, and names it as a reward."""
    servers = []

    def start(*replies, **settings):
        rest = list(replies)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                reply = rest.pop(0) if len(rest) > 1 else rest[0]
                if reply == "hang":
                    time.sleep(1)
                    return
                if isinstance(reply, int):
                    self.send_error(reply)
                    return
                body = json.dumps({"choices": [{"message": {"content": reply}}]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/v1"
        file = tmp_path / "judge.yaml"
        given = {"url": url, "model": "m", "at_once": 1, "retries": 1} | settings
        file.write_text(json.dumps(given))
        return f"judge={file}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_judge_gives_grades(judge):
    name = judge("7", "10", "I like it", "good")
    assert rewarded(name, ["a", "b", "c"], {1: {}, 2: {}, 3: {}}) == [0.7, 1.0, None]


def test_a_judge_that_fails_is_asked_again_and_named_in_the_end(judge):
    assert rewarded(judge(500, "5"), ["a"], {1: {}}) == [0.5]
    with pytest.raises(RewardError, match=r"ConnectionError: the judge at .* fails: 500.* 2 tries"):
        rewarded(judge(500), ["a"], {1: {}})
    with pytest.raises(RewardError, match="cannot be reached: timed out, in 1 tries"):
        rewarded(judge("hang", timeout=0.3, retries=0), ["a"], {1: {}})


def test_a_judge_whose_file_says_nothing_is_refused(tmp_path):
    (tmp_path / "j.yaml").write_text("model: m\nretries: -1\n")
    with pytest.raises(ConfigError, match=r"url is missing"):
        rewards_of(Settings(reward=f"judge={tmp_path / 'j.yaml'}"), {})
