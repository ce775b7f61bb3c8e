"""Background services: started once, stopped exactly, never a stranger."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zebra_assets.cli import ports, processes
from zebra_assets.cli.processes import birth
from zebra_assets.cli.services import Service, Services
from zebra_assets.control.processes import free_port
from zebra_assets.errors import Conflict, Unavailable

# A server that starts a child of its own, as `dagster dev` does.
SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def server(name: str, port: int, code: str = SERVER) -> Service:
    url = f"http://127.0.0.1:{port}"
    return Service(name, [sys.executable, "-c", code, str(port)], port, url, url)


def silent(text: str) -> None: ...


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path / ".zebraops", tmp_path)
    yield made
    made.down()


def eventually(claim: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.05)
    return False


def test_up_waits_until_all_answer_and_again_starts_nothing(services: Services) -> None:
    wanted = [server("a", free_port()), server("b", free_port())]
    first = services.up(wanted, timeout_s=20, tick=silent)
    assert set(first) == {"a", "b"}
    assert {name: s.pid for name, s in services.up(wanted, timeout_s=20, tick=silent).items()} == {n: s.pid for n, s in first.items()}


def test_down_ends_a_service_with_its_children_and_leaves_no_record(services: Services) -> None:
    wanted = server("a", free_port())
    running = services.up([wanted], timeout_s=20, tick=silent)["a"]
    child = int(running.log.read_text().split()[1])
    assert birth(child) is not None
    assert services.down() == ["a"]
    assert eventually(lambda: birth(running.pid) is None and birth(child) is None)
    assert services.running() == {} and services.down() == []


def test_a_process_id_used_again_by_a_stranger_is_never_signalled(services: Services) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        services.records.mkdir(parents=True)
        record = {"pid": stranger.pid, "started": "an earlier process", "port": 1, "url": "http://127.0.0.1:1"}
        (services.records / "a.json").write_text(json.dumps(record))
        assert services.down() == []
        assert stranger.poll() is None
        assert not (services.records / "a.json").exists()
    finally:
        os.kill(stranger.pid, signal.SIGKILL)
        stranger.wait()


def test_a_taken_port_names_the_process_that_holds_it_and_starts_nothing(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(
            Conflict, match=rf"Port {port}, which b needs, is taken by process {os.getpid()} .*Nothing was started"
        ) as caught:
            services.up([server("a", free_port()), server("b", port)], timeout_s=20, tick=silent)
    fix = re.fullmatch(rf"mlops up --lite --b-port (\d+), or stop it: kill {os.getpid()}", str(caught.value.fix))
    assert fix and int(fix[1]) > port and not ports.taken(int(fix[1]))
    assert services.running() == {}


def test_a_port_that_is_needed_besides_is_looked_at_before_anything_starts(services: Services) -> None:
    """SeaweedFS takes ten; that its 'admin' found one taken was told by its log alone, after the start."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        other = held.getsockname()[1]
        wanted = replace(server("b", free_port()), command="mlops up --lite --s3", others=(other,))
        with pytest.raises(Conflict, match=rf"Port {other}, which b needs, is taken by process {os.getpid()} ") as caught:
            services.up([wanted], timeout_s=20, tick=silent)
        fix = re.match(r"mlops up --lite --s3 --b-port (\d+), or", str(caught.value.fix))
        assert fix and wanted.in_the_way(wanted.port) == other and wanted.in_the_way(int(fix[1])) is None
    assert services.running() == {}


def test_a_service_that_ends_at_once_is_shown_with_its_last_words_and_the_others_are_stopped(services: Services) -> None:
    wanted = [server("a", free_port()), server("b", free_port(), code="raise SystemExit('no such database')")]
    with pytest.raises(Unavailable, match=r"b ended at once:\n.*no such database") as caught:
        services.up(wanted, timeout_s=20, tick=silent)
    assert "less " in str(caught.value.fix)
    assert services.running() == {}


def test_a_service_that_never_answers_is_stopped_after_the_time_given(services: Services) -> None:
    wanted = server("a", free_port(), code="import time; print('still loading', flush=True); time.sleep(60)")
    with pytest.raises(Unavailable, match=r"a did not answer within 1 s:\n.*still loading"):
        services.up([wanted], timeout_s=1, tick=silent)
    assert services.running() == {}


def test_a_free_port_is_free_and_a_closed_connection_does_not_take_it() -> None:
    port = free_port()
    assert not ports.taken(port)
    with socket.create_server(("127.0.0.1", port)) as held:
        assert ports.taken(port) and ports.holder(port) is not None
        with socket.create_connection(("127.0.0.1", port)) as client:
            peer, _ = held.accept()
            peer.close()  # the listening side closes first, so its end waits in TIME_WAIT
            assert client.recv(1) == b""
    assert not ports.taken(port) and ports.holder(port) is None


def test_what_ps_says_agrees_with_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as child:
        assert processes._members({child.pid}) == [child.pid] and birth(child.pid) is not None
        monkeypatch.setattr(processes, "PROC", False)
        assert processes._members({child.pid}) == [child.pid] and birth(child.pid) is not None
        assert child.stdin is not None
        child.stdin.close()
        # Ended and not waited for: a zombie, which counts as gone either way.
        assert eventually(lambda: birth(child.pid) is None and not processes._members({child.pid}))
        monkeypatch.undo()
        assert birth(child.pid) is None and not processes._members({child.pid})


def test_a_group_that_ignores_sigterm_is_killed_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.3)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as deaf:
        assert deaf.stdout is not None and deaf.stdout.readline() == b"deaf\n"
        processes.end({deaf.pid})
        assert deaf.wait(5) == -signal.SIGKILL
