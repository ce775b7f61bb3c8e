"""Which scope each route asks for. A route that is not listed here is closed to everybody but operators.

A new route: one line below. `*` stands for one segment of a path. HEAD is GET. A test walks all routes and fails for one
that has no line.
"""

import re

OPEN: frozenset[str] = frozenset()  # nobody is asked who they are
PREDICT, READ, OPERATE, TRAIN = frozenset({"predict"}), frozenset({"read"}), frozenset({"operate"}), frozenset({"train"})
KNOWN = PREDICT | READ | OPERATE | TRAIN  # any token at all

ROUTES: dict[str, frozenset[str]] = {
    "GET /health": OPEN,
    "GET /ready": KNOWN,
    "GET /model": READ,
    "GET /models": READ,
    "GET /models/*": READ,
    "GET /models/*/ready": KNOWN,
    "GET /metrics": READ,
    "GET /openapi.json": READ,
    "GET /": READ,
    "POST /predict": PREDICT,
    "POST /models/*/predict": PREDICT,
    "POST /invocations": PREDICT,
    "POST /akerbp/predict": PREDICT,
    "POST /akerbp/*/predict": PREDICT,
    "GET /ping": KNOWN,
    "GET /version": KNOWN,
    "GET /v2": KNOWN,
    "GET /v2/": KNOWN,
    "GET /v2/health/live": KNOWN,
    "GET /v2/health/ready": KNOWN,
    "GET /v2/models/*": KNOWN,
    "GET /v2/models/*/ready": KNOWN,
    "POST /v2/models/*/infer": PREDICT,
    "GET /v2/models/*/versions/*": KNOWN,
    "GET /v2/models/*/versions/*/ready": KNOWN,
    "POST /v2/models/*/versions/*/infer": PREDICT,
}

# Paths remembered with what they need: as many as a server has models, and no more for a client that makes paths up.
_MOST = 512


class Scopes:
    """Answers which scopes suffice for a request. One lookup for a path that was asked before."""

    def __init__(self, routes: dict[str, frozenset[str]] | None = None) -> None:
        self._patterns = []
        for route, needs in (routes or ROUTES).items():
            method, path = route.split(" ", 1)
            pattern = "/".join("[^/]+" if part == "*" else re.escape(part) for part in path.split("/"))
            self._patterns.append((re.compile(pattern), method, needs))
        self._paths: dict[str, dict[str, frozenset[str]]] = {}

    def needed(self, method: str, path: str) -> frozenset[str]:
        """Scopes of which one suffices; `OPEN` where nobody is asked, `OPERATE` for what is not listed."""
        methods = self._paths.get(path)
        if methods is None:
            methods = self._look_up(path)
        return methods.get(method, OPERATE)

    def declared(self, method: str, path: str) -> bool:
        """Whether a line names this."""
        return method in self._look_up(path)

    def _look_up(self, path: str) -> dict[str, frozenset[str]]:
        found = {method: needs for pattern, method, needs in self._patterns if pattern.fullmatch(path)}
        if "GET" in found:
            found["HEAD"] = found["GET"]
        if len(self._paths) >= _MOST:
            self._paths.clear()
        self._paths[path] = found
        return found
