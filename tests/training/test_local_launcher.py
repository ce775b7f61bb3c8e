"""The local launcher: lines as they come, whole groups killed, an allow-list of the environment."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from zebra_assets.errors import TrainingFailed
from zebra_assets.kinds import find, known
from zebra_assets.training.launchers import local


def run(source: str, lines: list[str], timeout_s: float = 10, **env: str) -> tuple[int, list[str]]:
    launcher = find("launcher", "local")()
    return launcher.run([sys.executable, "-c", source], env=env, cwd=Path.cwd(), timeout_s=timeout_s, log=lines.append)


def test_the_guard_is_not_a_kind_of_launcher() -> None:
    assert "local" in known("launcher") and not [name for name in known("launcher") if "guard" in name]


def test_lines_of_both_streams_are_logged_and_the_tail_is_stderr() -> None:
    lines: list[str] = []
    code, tail = run("import sys; print('out'); print('err', file=sys.stderr); sys.stderr.write('last'); sys.exit(3)", lines)
    assert (code, tail, sorted(lines)) == (3, ["err", "last"], ["err", "last", "out"])


def test_a_line_is_seen_while_the_process_still_runs(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    waiting = f"import pathlib, time; print(1)\nwhile not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.01)"
    code, _ = find("launcher", "local")().run(
        [sys.executable, "-c", waiting], env={}, cwd=tmp_path, timeout_s=30, log=lambda _: seen.touch()
    )
    assert code == 0


def test_a_signal_is_told_as_128_plus_its_number() -> None:
    assert run("import os; os.kill(os.getpid(), 11)", [])[0] == 139


def test_a_command_that_does_not_exist_exits_with_127() -> None:
    code, tail = local.Local().run(["/no/such"], env={}, cwd=Path.cwd(), timeout_s=10, log=lambda _: None)
    assert code == 127 and "No such file" in tail[-1]


def test_a_megabyte_without_a_newline_arrives_in_pieces() -> None:
    lines: list[str] = []
    run("import sys; sys.stdout.write('x' * 1_000_000)", lines)
    assert sum(map(len, lines)) == 1_000_000 and max(map(len, lines)) <= 2 * 64 * 1024


def test_bytes_that_are_no_text_do_not_stop_the_log() -> None:
    lines: list[str] = []
    run("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\nend\\n')", lines)
    assert lines[-1] == "end"


def test_a_script_that_ignores_term_is_killed_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.3)
    lines: list[str] = []
    with pytest.raises(TrainingFailed, match=r"timed out after 0\.5 s"):
        run("import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)", lines, 0.5)
    assert not psutil.pid_exists(int(lines[0]))


def test_a_daemonised_grandchild_does_not_outlive_the_script(tmp_path: Path) -> None:
    source = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "        time.sleep(60)\n"
        "    os._exit(0)\n"
        "time.sleep(0.2)\n"
    )
    assert run(source, [])[0] == 0
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_script_that_closes_its_streams_is_still_waited_for() -> None:
    assert run("import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(7)", [])[0] == 7


def test_only_listed_variables_are_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    lines: list[str] = []
    run("import os; print(sorted(os.environ))", lines, ZEBRA_RUN_ID="x")
    assert "AWS" not in lines[0] and "canary" not in lines[0]
    assert all(name in lines[0] for name in ("ZEBRA_RUN_ID", "OMP_NUM_THREADS", "PATH", "PYTHONUNBUFFERED"))
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "canary"
