"""Who may ask what: every route declares its scope, and each kind of caller gets exactly what is declared."""

import asyncio
import base64
import errno
import hmac
import itertools
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.routing import Route

from tests.serving.conftest import MODEL, ROW, Bench, Shelf, make_bench, until
from zebra_assets.adapters.token_file import TokenFile
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.token import SCOPES, Token
from zebra_assets.errors import Refused, UsageError
from zebra_assets.governance.tokens import belongs, mint
from zebra_assets.settings import Settings
from zebra_serving.access.identities import ANYBODY, GOOD_S, GUESSES, LOOK_S, SHARE_PER_S, Identities
from zebra_serving.access.oidc import KEEP_S, MAX_CHARS, RETRY_S, STALE_S, UNKNOWN_S, Oidc
from zebra_serving.access.rates import BURST_S, MOST, Rates, network_of
from zebra_serving.access.scopes import KNOWN, OPEN, OPERATE, PREDICT, READ, ROUTES, Scopes
from zebra_serving.app import App
from zebra_serving.guard import check_bind
from zebra_serving.problems import NotReady, RateLimited, Unauthorized

# Pinned: a route may be added with its line in `scopes`; one that is opened wider has to be opened here, too.
GOLDEN = {
    "GET /health": "none predict read operate train expired wrong",
    "GET /ready": "predict read operate train",
    "GET /ping": "predict read operate train",
    "GET /version": "predict read operate train",
    "GET /v2": "predict read operate train",
    "GET /v2/health/live": "predict read operate train",
    "GET /v2/health/ready": "predict read operate train",
    "GET /v2/models/*": "predict read operate train",
    "GET /v2/models/*/versions/*": "predict read operate train",
    "GET /model": "read",
    "GET /models": "read",
    "GET /models/*": "read",
    "GET /metrics": "read",
    "GET /openapi.json": "read",
    "GET /": "read",
    "POST /predict": "predict",
    "POST /models/*/predict": "predict",
    "POST /invocations": "predict",
    "POST /v2/models/*/infer": "predict",
    "POST /v2/models/*/versions/*/infer": "predict",
}
SHARE = int(SHARE_PER_S * BURST_S)  # guesses at once for one id
IDENTITIES = ("none", *SCOPES, "expired", "wrong")


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def with_settings(bench: Bench, **more: Any) -> Bench:
    return Bench(Settings(**{**bench.settings.model_dump(), **more}), bench.shelf)


def keep(bench: Bench, name: str, *scopes: Any, lasts: timedelta | None = None) -> str:
    """A token in the project's file; its secret."""
    at = now() if lasts is None or lasts > timedelta(0) else now() + 2 * lasts
    made = mint(name, scopes, at=at, by="test", expires_at=at + abs(lasts) if lasts else None)
    TokenFile(bench.settings.tokens_file).add(made.token)
    return made.secret


@dataclass
class Office:
    """A server that knows its callers, and each one's header."""

    client: httpx.Client
    app: App
    headers: dict[str, dict[str, str]]

    def status(self, who: str, route: str) -> int:
        method, path = route.split(" ")
        path = path.replace("models/*", f"models/{MODEL}").replace("versions/*", "versions/1").replace("*", "x")
        return self.client.request(method, path, headers=self.headers[who]).status_code


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[Office]:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    secrets = {scope: keep(bench, scope, scope) for scope in SCOPES}
    secrets["expired"] = keep(bench, "expired", *SCOPES, lasts=timedelta(hours=-1))
    secrets["wrong"] = secrets["predict"][:-1] + ("A" if secrets["predict"][-1] != "A" else "B")
    app = bench.app()
    with bench.running(app) as client:
        until(lambda: app.loader.current)
        yield Office(client, app, {"none": {}, **{who: bearer(secret) for who, secret in secrets.items()}})


def routes_of(app: App, document: dict[str, Any]) -> set[str]:
    """Every ``METHOD /path`` that an app answers: its control routes, its doors, and all that its interface describes."""
    control = {f"{m} {r.path}" for r in app.control.routes if isinstance(r, Route) for m in (r.methods or ()) if m != "HEAD"}
    control |= {f"{m.upper()} {path}" for path, methods in document["paths"].items() for m in methods}
    return {re.sub(r"\{[^}]+\}", "x", route) for route in control}


def test_every_route_declares_its_scope(office: Office) -> None:
    document = office.client.get("/openapi.json", headers=office.headers["read"]).json()
    undeclared = [route for route in routes_of(office.app, document) if not Scopes().declared(*route.split(" "))]
    assert not undeclared, "add a line for each in zebra_serving/access/scopes.py"
    scopes = Scopes()
    below = {
        path for path in office.app._doors
        if not any(scopes.declared(method, path) for method in ("GET", "POST", "PUT", "DELETE"))
        and not any(route.split(" ")[1].startswith(path) for route in ROUTES)
    }  # fmt: skip
    assert not below, "a door answers these, and no line of zebra_serving/access/scopes.py names them"


@pytest.mark.parametrize("who", IDENTITIES)
def test_each_caller_gets_what_is_declared_and_nothing_else(office: Office, who: str) -> None:
    for route, needs in ROUTES.items():
        status = office.status(who, route)
        if not needs or who in needs:
            assert status not in (401, 403), (route, who, status)
        else:
            assert status == (403 if who in SCOPES else 401), (route, who, status)


@pytest.mark.parametrize("route", GOLDEN)
def test_what_is_declared_is_what_was_agreed(route: str) -> None:
    assert "".join(f"{w} " for w in IDENTITIES if not ROUTES[route] or w in ROUTES[route]).split() == GOLDEN[route].split()


@pytest.mark.parametrize("who", [w for w in IDENTITIES if w != "operate"])
@pytest.mark.parametrize("route", ["GET /nowhere", "PUT /predict", f"PUT /models/{MODEL}", "GET /predict", "POST /model", "DELETE /health", "POST /v2/models/x/y", "GET /docs",
                                   f"POST /v2/models/{MODEL}/infer/", "OPTIONS /predict", "TRACE /health"])  # fmt: skip
def test_what_nobody_declared_is_closed(office: Office, who: str, route: str) -> None:
    assert office.status(who, route) == (403 if who in SCOPES else 401)


def test_a_path_with_a_wildcard_is_no_way_around(office: Office) -> None:
    scopes = Scopes()
    for path in (f"/v2/models/{MODEL}/infer", "/v2/models/x/versions/1/infer"):
        assert scopes.needed("POST", path) is PREDICT
    for path in (
        "/v2/models//infer",
        "/v2/models/a/b/infer",
        "/v2/models/a/infer/",
        "/v2/models/a\n/infer/x",
        "/predict/",
        "//predict",
        "",
    ):
        assert scopes.needed("POST", path) is OPERATE, path
    assert scopes.needed("HEAD", "/model") is READ and scopes.needed("GET", "/health") is OPEN and scopes.needed("GET", "/ready") is KNOWN
    for n in range(5000):
        scopes.needed("GET", f"/{n}")
    assert len(scopes._paths) <= 512


@pytest.mark.parametrize("header", ["", "Bearer", "Basic abc", "zebra", "Bearer zebra_", "Bearer zebra_00_x", "Bearer " + "a" * 5000, "Bearer a.b.c",
                                    "Bearer \xff", "bearer zebra_ _"])  # fmt: skip
def test_a_header_that_is_no_token_is_refused_with_a_way_on(office: Office, header: str) -> None:
    refused = office.client.post("/predict", json=ROW, headers={"authorization": header.encode("latin-1")})
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer" and "mlops token create" in refused.json()["fix"]


def test_a_refusal_names_what_is_missing_and_never_repeats_the_secret(office: Office) -> None:
    secret = office.headers["predict"]["authorization"]
    refused = office.client.get("/model", headers=office.headers["predict"])
    assert refused.json()["error"] == "Token 'predict' may predict; this asks for read." and "--scope read" in refused.json()["fix"]
    expired = office.client.get("/model", headers=office.headers["expired"])
    assert "'expired' is expired since" in expired.json()["error"]
    assert not any(secret[-20:] in answer.text for answer in (refused, expired))


def test_a_token_made_or_revoked_counts_within_a_second_without_a_restart(bench: Bench) -> None:
    bench.promote("1")
    first = keep(bench, "first", "predict")
    with bench.client("1") as client:
        assert client.post("/predict", json=ROW, headers=bearer(first)).status_code == 200
        second = keep(bench, "second", "predict", "read")
        until(lambda: client.get("/model", headers=bearer(second)).status_code == 200)
        TokenFile(bench.settings.tokens_file).revoke("first", now())
        until(lambda: client.post("/predict", json=ROW, headers=bearer(first)).status_code == 401)
        assert LOOK_S <= 1
        assert "'first' is revoked" in client.post("/predict", json=ROW, headers=bearer(first)).json()["error"]
        for spoilt in ("{", None):  # a file that turns bad or vanishes opens nothing and locks nobody out who is known
            if spoilt is None:
                bench.settings.tokens_file.unlink()
            else:
                bench.settings.tokens_file.write_text(spoilt)
            time.sleep(1.1)
            assert client.post("/predict", json=ROW).status_code == 401
            assert client.post("/predict", json=ROW, headers=bearer(second)).status_code == (200 if spoilt else 401)


def test_a_token_ends_when_it_says_also_while_it_is_remembered(tmp_path: Path) -> None:
    book = TokenFile(tmp_path / "tokens.json")
    made = mint("short", ["predict"], at=now(), by="test", expires_at=now() + timedelta(seconds=60))
    book.add(made.token)
    who = Identities("", book, None, must=True)
    header = bearer(made.secret)["authorization"].encode()
    assert asyncio.run(who.ask(header)).name == "short"
    assert who.known(header, time.perf_counter() + 30) is not None
    assert who.known(header, time.perf_counter() + 60) is None


class Counted:
    """`belongs`, counted; it goes on once ``go`` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times, self.go = 0, threading.Event()
        self.go.set()
        monkeypatch.setattr("zebra_serving.access.identities.belongs", self)

    def __call__(self, secret: str, token: Token) -> bool:
        self.times += 1
        assert self.go.wait(20)
        return belongs(secret, token)


async def answered(who: Identities, header: bytes) -> str:
    """The name of who sent a header, or why it is refused."""
    try:
        return (await who.ask(header)).name
    except (Unauthorized, RateLimited, NotReady) as error:
        return type(error).__name__


def header_of(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def test_guesses_are_slowed_down_and_those_who_are_known_are_not(bench: Bench) -> None:
    app, *others = [keep(bench, f"app-{n}", "predict") for n in range(1 + 2 * GUESSES // SHARE)]
    moment = 100.0
    who = Identities("", TokenFile(bench.settings.tokens_file), None, must=True, clock=lambda: moment)

    def ask(text: str) -> str:
        return asyncio.run(answered(who, header_of(text)))

    assert ask(app) == "app-0"
    guessed = [ask(f"{app[:-4]}{n:04}") for n in range(SHARE + 2)]
    assert guessed == ["Unauthorized"] * (SHARE - 1) + ["RateLimited"] * 3  # who knows one id has that id's share
    assert ask(others[0]) == "app-1"
    guessed = [ask(f"{other[:-4]}{n:04}") for other in others[1:] for n in range(SHARE)]
    assert guessed.count("Unauthorized") == GUESSES - SHARE - 1 and guessed[-1] == "RateLimited"  # and who knows many has the server's
    assert ask(f"{app[:-4]}0000") == "Unauthorized"  # remembered, so it costs nothing
    assert [ask(f"zebra_{n:012x}_{'x' * 43}") for n in range(100)] == ["Unauthorized"] * 100  # nor does an id of no token
    known = who.known(header_of(app), moment)
    assert known is not None and known.name == "app-0"


def test_a_burst_of_requests_with_one_token_is_one_guess(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    moment, secret = 100.0, keep(bench, "app", "predict")
    who = Identities("", TokenFile(bench.settings.tokens_file), None, must=True, clock=lambda: moment)
    counted = Counted(monkeypatch)

    async def burst() -> list[str]:
        assert who.known(header_of(secret), moment) is None
        return await asyncio.gather(*(answered(who, header_of(secret)) for _ in range(100)))

    assert asyncio.run(burst()) == ["app"] * 100 and counted.times == 1
    moment += GOOD_S + 1  # no longer known without asking
    assert asyncio.run(burst()) == ["app"] * 100
    keep(bench, "unrelated", "predict")
    moment += LOOK_S + 1
    assert asyncio.run(burst()) == ["app"] * 100 and counted.times == 1


def test_a_request_that_goes_away_leaves_the_others_their_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = keep(bench, "app", "predict")
    who = Identities("", TokenFile(bench.settings.tokens_file), None, must=True)
    counted = Counted(monkeypatch)

    async def burst() -> list[object]:
        counted.go.clear()
        asked = [asyncio.create_task(answered(who, header_of(secret))) for _ in range(5)]
        while not counted.times:
            await asyncio.sleep(0.001)
        asked[0].cancel()
        asked[3].cancel()
        await asyncio.wait(asked[:1])
        counted.go.set()
        return [type(a) if isinstance(a, BaseException) else a for a in await asyncio.gather(*asked, return_exceptions=True)]

    gone = asyncio.CancelledError
    assert asyncio.run(burst()) == [gone, "app", "app", gone, "app"] and counted.times == 1


def test_a_token_revoked_while_it_is_compared_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    moment, secret = 100.0, keep(bench, "app", "predict")
    book = TokenFile(bench.settings.tokens_file)
    who = Identities("", book, None, must=True, clock=lambda: moment)
    counted = Counted(monkeypatch)

    async def race() -> str:
        counted.go.clear()
        asked = asyncio.create_task(answered(who, header_of(secret)))
        while not counted.times:
            await asyncio.sleep(0.001)
        book.revoke("app", now())
        who.known(b"", moment + LOOK_S)
        counted.go.set()
        return await asked

    assert asyncio.run(race()) == "Unauthorized" and who.known(header_of(secret), moment + LOOK_S) is None


@pytest.mark.parametrize("fault", ["no descriptors", "no permission", "no folder"])
def test_a_revocation_counts_once_the_file_can_be_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    moment, secret = 100.0, keep(bench, "app", "predict")
    book = TokenFile(bench.settings.tokens_file)
    who = Identities("", book, None, must=True, clock=lambda: moment)

    def ask() -> str:
        nonlocal moment
        moment += LOOK_S
        known = who.known(header_of(secret), moment)
        return known.name if known else asyncio.run(answered(who, header_of(secret)))

    assert ask() == "app"
    book.revoke("app", now())
    # A test that runs as root may read what chmod forbids, so the system's word is put in its mouth; the stamp does not change.
    code, call = {"no descriptors": (errno.EMFILE, "open"), "no permission": (errno.EACCES, "open"), "no folder": (errno.EACCES, "stat")}[
        fault
    ]
    real = getattr(Path, call)

    def failing(self: Path, *how: Any, **more: Any) -> Any:
        if self == book.path:
            raise OSError(code, os.strerror(code))
        return real(self, *how, **more)

    with monkeypatch.context() as broken:
        broken.setattr(Path, call, failing)
        assert [ask() for _ in range(5)] == ["app"] * 5  # as it was last read
    assert len([r for r in caplog.records if "stay as they were" in r.message]) == 1
    assert ask() == "Unauthorized" and "can be read again" in caplog.text


def test_a_file_of_tokens_that_cannot_be_read_at_the_start_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "no")

    book = TokenFile(tmp_path / "tokens.json")
    laptop = Identities("", book, None, must=False, clock=lambda: 0.0)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "stat", failing)
        assert Identities("", book, None, must=False).required
        assert laptop.known(b"", LOOK_S) is ANYBODY  # where there was no file a second ago


def test_the_file_holds_no_secret_and_is_for_its_owner_only(bench: Bench) -> None:
    secret = keep(bench, "app", "predict")
    path = bench.settings.tokens_file
    assert secret.rpartition("_")[2] not in path.read_text() and path.stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> tuple[rsa.RSAPrivateKey, Path]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    path = tmp_path_factory.mktemp("issuer") / "jwks.json"
    path.write_text(json.dumps({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]}))
    return key, path


def oidc(bench: Bench, jwks: Path | str, **more: Any) -> Bench:
    return with_settings(
        bench, serving_oidc_issuer="https://id.example", serving_oidc_audience="zebra-churn", serving_oidc_jwks=str(jwks), **more
    )


def forged(secret: bytes, claims: dict[str, Any]) -> str:
    """A JWT that whoever knows the published key can make: HS256 with it. PyJWT itself will not make one."""
    parts = (json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims))
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.new(secret, signed, "sha256").digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def test_a_jwt_counts_if_all_of_it_holds(bench: Bench, issuer: tuple[rsa.RSAPrivateKey, Path]) -> None:
    key, path = issuer
    bench.promote("1")
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    soon = int(time.time()) + 600
    claims = {"iss": "https://id.example", "aud": "zebra-churn", "sub": "app-7", "exp": soon, "scope": "openid zebra:predict"}

    def token(signer: Any = key, algorithm: str = "RS256", kid: str = "k1", **changed: Any) -> str:
        body = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode(body, signer, algorithm=algorithm, headers={"kid": kid})

    with oidc(bench, path).client("1") as client:

        def status(secret: str, route: str = "/predict") -> int:
            asked = (
                client.post(route, json=ROW, headers=bearer(secret)) if route == "/predict" else client.get(route, headers=bearer(secret))
            )
            return asked.status_code

        assert status(token()) == 200 and status(token(), "/model") == 403 and status(token(), "/ready") == 200
        assert status(token(scope=["zebra:read"]), "/model") == 200
        assert status(token(scope="predict read zebra:everything")) == 403
        bad = {
            "another issuer": token(iss="https://evil.example"), "another audience": token(aud="zebra-other"), "expired": token(exp=soon - 700),
            "not yet": token(nbf=soon), "another key": token(other), "another key's name": token(kid="k2"), "no expiry": token(exp=None),
            "no audience": token(aud=None), "no subject": token(sub=None), "no signature": token(None, "none"),
            "public key as a secret": forged(path.read_bytes(), claims), "wrong curve": token(ec.generate_private_key(ec.SECP256R1()), "ES256"),
            "cut": token()[:-5], "no json": "a.b.c",
        }  # fmt: skip
        assert {why: status(secret) for why, secret in bad.items()} == dict.fromkeys(bad, 401)
        assert client.post("/predict", json=ROW).status_code == 401 and client.get("/health").status_code == 200


@contextmanager
def publishing(keys: Path, asked: list[str], port: int = 0) -> Iterator[int]:
    """An issuer's key address on loopback, and its port."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(keys.read_bytes())

        def log_message(self, *what: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", port), Keys) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_an_issuers_keys_are_fetched_seldom_and_outlive_its_absence(
    bench: Bench, issuer: tuple[rsa.RSAPrivateKey, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, path = issuer
    bench.promote("1")
    seconds = [1000.0]
    monkeypatch.setattr("zebra_serving.access.oidc.time", SimpleNamespace(monotonic=lambda: seconds[0]))
    claims = {"iss": "https://id.example", "aud": "zebra-churn", "exp": int(time.time()) + 600, "scope": "zebra:predict"}
    names, asked = itertools.count(), list[str]()

    def answer(kid: str = "k1") -> httpx.Response:
        token = jwt.encode({**claims, "sub": f"app-{next(names)}"}, key, algorithm="RS256", headers={"kid": kid})
        return client.post("/predict", json=ROW, headers=bearer(token))

    with publishing(path, asked) as port:
        pass
    with oidc(bench, f"http://127.0.0.1:{port}/keys").client("1") as client:
        lost = answer()
        assert (lost.status_code, lost.headers["retry-after"], "issuer's keys" in lost.json()["error"]) == (503, "1", True)
        with publishing(path, asked, port):
            assert answer().status_code == 503 and asked == []  # which was away a moment ago
            seconds[0] += RETRY_S
            assert [answer().status_code for _ in range(5)] == [200] * 5
            fetched = len(asked)
            assert [answer("k9").status_code for _ in range(8)] == [401] * 8  # forged names do not make us knock at the issuer's door
            assert len(asked) == fetched == 1
            seconds[0] += UNKNOWN_S + 1
            assert [answer("k9").status_code for _ in range(8)] == [401] * 8 and len(asked) == 2
        seconds[0] += KEEP_S + 1
        assert [answer().status_code for _ in range(3)] == [200] * 3
        assert answer("k9").status_code == 503  # it may be the issuer's newest: nobody can tell
        seconds[0] += STALE_S
        assert answer().status_code == 503


def callers(bench: Bench, jwks: Path | str, clock: Callable[[], float] = lambda: 100.0) -> Identities:
    settings = oidc(bench, jwks).settings
    return Identities("", TokenFile(settings.tokens_file), Oidc.of(settings), must=True, clock=clock)


def signed(key: rsa.RSAPrivateKey, subject: str, kid: str = "k1") -> bytes:
    claims = {"iss": "https://id.example", "aud": "zebra-churn", "sub": subject, "exp": int(time.time()) + 600, "scope": "zebra:predict"}
    return header_of(jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid}))


def test_garbage_that_looks_like_a_jwt_locks_nobody_out(bench: Bench, issuer: tuple[rsa.RSAPrivateKey, Path]) -> None:
    secret, (key, path) = keep(bench, "app", "predict"), issuer
    who, stranger = callers(bench, path), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    deep = base64.urlsafe_b64encode(b"[" * 3 * (MAX_CHARS // 5)).decode().rstrip("=")

    async def flood() -> list[str]:
        forged = signed(stranger, "x").rpartition(b".")[0]
        garbage = [header_of(f"a.{n}.c") for n in range(500)] + [forged + f".{n:08}".encode() for n in range(100)]
        garbage += [
            signed(stranger, "x"),
            signed(key, "x", kid="k2"),
            header_of(f"{deep}.{deep[:8]}.c"),
            signed(key, "x" * MAX_CHARS),
        ]
        return await asyncio.gather(*(answered(who, header) for header in garbage))

    async def good() -> list[str]:
        return await asyncio.gather(*(answered(who, signed(key, f"app-{n}")) for n in range(50)), answered(who, header_of(secret)))

    assert set(asyncio.run(flood())) == {"Unauthorized"}
    assert asyncio.run(good()) == [f"app-{n}" for n in range(50)] + ["app"]
    assert len(who._right) == 1 and not who._wrong  # what was cheap to refuse takes no room from what was not


def test_an_issuer_that_is_slow_is_asked_once_however_many_wait(
    bench: Bench, issuer: tuple[rsa.RSAPrivateKey, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, path = issuer
    fetched, slow, go, seconds = list[str](), threading.Event(), threading.Event(), [1000.0]
    monkeypatch.setattr("zebra_serving.access.oidc.time", SimpleNamespace(monotonic=lambda: seconds[0]))

    def fetch(client: jwt.PyJWKClient) -> Any:
        fetched.append(client.uri)
        slow.set()
        assert go.wait(20)
        return json.loads(path.read_bytes())

    monkeypatch.setattr(jwt.PyJWKClient, "fetch_data", fetch)
    who = callers(bench, "https://id.example/keys")

    async def asked() -> None:
        first = [asyncio.create_task(answered(who, signed(key, f"app-{n}"))) for n in range(50)]
        await asyncio.to_thread(slow.wait, 20)
        go.set()
        assert await asyncio.gather(*first) == [f"app-{n}" for n in range(50)] and len(fetched) == 1
        seconds[0] += UNKNOWN_S + 1
        other = jwt.encode({"sub": "x"}, ec.generate_private_key(ec.SECP384R1()), algorithm="ES384", headers={"kid": "k9"})
        assert await answered(who, header_of(other)) == "Unauthorized" and len(fetched) == 1  # no such algorithm: not worth asking
        slow.clear()
        go.clear()
        forged = [asyncio.create_task(answered(who, signed(key, f"x-{n}", kid="k9"))) for n in range(50)]
        await asyncio.to_thread(slow.wait, 20)
        assert await answered(who, signed(key, "app")) == "app"  # whose key is here does not wait for forgers
        go.set()
        assert set(await asyncio.gather(*forged)) == {"Unauthorized"} and len(fetched) == 2

    asyncio.run(asked())


def test_a_file_of_keys_that_cannot_be_read_once_is_read_again(
    bench: Bench, issuer: tuple[rsa.RSAPrivateKey, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key, seconds = issuer[0], [1000.0]
    monkeypatch.setattr("zebra_serving.access.oidc.time", SimpleNamespace(monotonic=lambda: seconds[0]))
    path = tmp_path / "keys.json"
    path.write_bytes(issuer[1].read_bytes())
    who = callers(bench, path)
    path.write_text(json.dumps({"keys": [{**json.loads(issuer[1].read_text())["keys"][0], "kid": "k10"}]}))

    def ask(kid: str) -> str:
        return asyncio.run(answered(who, signed(key, f"app-{next(names)}", kid=kid)))[:4]

    names = itertools.count()
    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files")))
        assert [ask("k1"), ask("k1")] == ["app-"] * 2 and caplog.text.count("Too many open files") == 1
        seconds[0] += STALE_S + 1
        assert ask("k1") == "NotR"
    assert [ask("k10"), ask("k1")] == ["app-", "Unau"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"serving_oidc_audience": None}, "need an issuer, an audience"), ({"serving_oidc_jwks": "http://id.example/keys"}, "unprotected"),
        ({"serving_oidc_jwks": "/nowhere/keys.json"}, "no file of keys"), ({"serving_oidc_algorithms": "HS256"}, "'HS256' is no signature"),
        ({"serving_oidc_algorithms": "RS256,none"}, "'none'"), ({"serving_oidc_algorithms": ""}, "'none'"),
    ],
)  # fmt: skip
def test_settings_that_would_let_anybody_sign_are_refused(bench: Bench, issuer: Any, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        with_settings(oidc(bench, issuer[1]), **changed).app()
    assert refused.value.fix


def test_hosts_may_be_named_and_then_no_other_is_accepted(bench: Bench) -> None:
    bench.promote("1")
    for host, known in (("127.0.0.1", {"127.0.0.1"}), ("0.0.0.0", set())):
        with with_settings(bench, serving_allowed_hosts="ml.example.com, *.apps.example", serving_token="s").client(
            "1", host=host
        ) as client:
            for name in ("ml.example.com", "ML.example.com:8080", "a.apps.example", "a.b.apps.example:1", *known):
                assert client.get("/health", headers={"host": name}).status_code == 200, name
            for name in ("evil.example", "apps.example", "xapps.example", "ml.example.com.evil.example", "", *({"127.0.0.1"} - known)):
                assert client.get("/health", headers={"host": name}).status_code == 400, name


def test_the_access_log_says_who_asked_what_and_nothing_of_what_was_said(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    secret = keep(bench, "app", "predict")
    path = tmp_path / "logs" / "access.jsonl"
    with with_settings(bench, serving_access_log=str(path)).client("1") as client:
        client.post("/predict?key=hunter2", json={**ROW, "gender": "Geheimnis"}, headers={**bearer(secret), "x-request-id": "order-1"})
        until(path.exists)
        path.rename(path.with_suffix(".1"))
        client.get("/model", headers=bearer(secret))
        client.get("/hunter2", headers={"x-request-id": "order-3"})
    lines = [json.loads(line) for file in (path.with_suffix(".1"), path) for line in file.read_text().splitlines()]
    first, second, third = lines
    assert abs(first.pop("ts") - time.time()) < 60 and 0 < first.pop("ms") < 60_000 and first.pop("bytes") > 50
    assert first == {
        "request_id": "order-1",
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "token": "app",
        "model": MODEL,
        "version": "1",
    }
    assert (second["route"], second["status"], second["token"], second["version"]) == ("/model", 403, "app", None)
    assert (third["route"], third["status"], third["token"]) == ("other", 401, None)
    assert not any(word in str(lines) for word in ("hunter2", "Geheimnis", secret[-20:]))


def test_a_log_that_cannot_be_written_costs_lines_and_no_answer(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    (tmp_path / "file").touch()
    quiet = with_settings(bench, serving_access_log=str(tmp_path / "file" / "access.jsonl"))
    app = quiet.app()
    with quiet.running(app) as client:
        until(lambda: app.loader.current)
        assert client.post("/predict", json=ROW).status_code == 200
        until(lambda: app._log is not None and app._log.dropped == 1, 3)


def test_any_kind_of_token_opens_other_addresses_and_root_may_be_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check_bind("127.0.0.1", bench.settings)
    with pytest.raises(Refused, match="without a token"):
        check_bind("0.0.0.0", bench.settings)
    check_bind("0.0.0.0", with_settings(bench, serving_token="s").settings)
    check_bind("0.0.0.0", with_settings(bench, serving_oidc_issuer="https://id.example").settings)
    keep(bench, "app", "predict")
    check_bind("0.0.0.0", bench.settings)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check_bind("0.0.0.0", bench.settings)
    careful = with_settings(bench, serving_root="refuse").settings
    check_bind("127.0.0.1", careful)
    with pytest.raises(Refused, match="as root"):
        check_bind("0.0.0.0", careful)


def test_compressed_bodies_and_floods_of_headers_are_refused(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        for encoding in ("gzip", "br", "deflate", "identity, gzip", "identity"):
            assert client.post("/predict", json=ROW, headers={"content-encoding": encoding}).status_code == 415
        assert client.post("/predict", json=ROW, headers=[("x-same", "1")] * 101).status_code == 431


def test_a_caller_who_asks_too_often_is_told_when_to_come_back_and_others_are_not(bench: Bench) -> None:
    bench.promote("1")
    fast, slow = keep(bench, "fast", "predict"), keep(bench, "slow", "predict")
    with with_settings(bench, serving_rate_per_s=5).client("1") as client:
        answers = [client.post("/predict", json=ROW, headers=bearer(fast)) for _ in range(30)]
        assert [a.status_code for a in answers[:10]] == [200] * 10
        refused = [a for a in answers if a.status_code == 429]
        assert len(refused) >= 15 and refused[-1].headers["retry-after"] == "1"
        assert client.post("/predict", json=ROW, headers=bearer(slow)).status_code == 200


def test_a_rate_is_kept_to_the_request_and_memory_does_not_grow() -> None:
    rates = Rates(10)
    passed = sum(rates.pass_("a", n / 1000) == 0.0 for n in range(10_000))
    assert passed == pytest.approx(10 * 10 + 20, abs=1)
    assert rates.pass_("b", 10.0) == 0.0
    for n in range(3 * MOST):
        rates.pass_(str(n), 10.0)
    assert len(rates._due) == MOST
    once_a_minute = Rates(1 / 60)
    assert once_a_minute.pass_("a", 0.0) == 0.0 and once_a_minute.pass_("a", 1.0) == pytest.approx(59.0)


def test_addresses_of_one_household_are_one_caller() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
