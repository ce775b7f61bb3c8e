"""How a prediction server is started: its command, and what its allocator is told.

The server itself is `zebra_serving`; containers say the same in infra/docker/serving.Dockerfile. Called by `mlops serve`,
`mlops up`, the demo and the benchmarks.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# glibc keeps what is freed in stores of each thread, up to 236 KB, and counts it as in use. Under load they fill for an hour:
# 887 KB in all after 16 minutes, 1,028 KB after 56 (docs/serving-speed.md, "Memory").
_TUNABLE = "GLIBC_TUNABLES"
_NO_THREAD_STORE = "glibc.malloc.tcache_count"


def command(project: Path, models: Sequence[str], *, port: int, alias: str = "prod", host: str = "127.0.0.1") -> list[str]:
    """The argv that serves ``models`` of ``project``; port 0 takes a free one, told in the first line it prints."""
    named = [part for model in models for part in ("--model", model)]
    return [sys.executable, "-m", "zebra_serving", *named, "--alias", alias, "--host", host, "--port", str(port), "--project", str(project)]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """``base`` for a server: the allocator keeps no store per thread, unless ``base`` says how large it is to be."""
    said = base.get(_TUNABLE, "")
    wanted = [said] if said else []
    if _NO_THREAD_STORE not in said:
        wanted.append(f"{_NO_THREAD_STORE}=0")
    return {**base, _TUNABLE: ":".join(wanted)}
