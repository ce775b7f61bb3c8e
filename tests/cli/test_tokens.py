"""`mlops token`: the secret is shown once, what is kept is of no use to a thief, and every change is in the audit log."""

from pathlib import Path

import pytest

from tests.cli.conftest import Mlops
from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.adapters.token_file import TokenFile
from zebra_assets.contracts.noun import now
from zebra_assets.errors import SpecInvalid
from zebra_assets.governance.tokens import belongs, id_of, mint


def test_a_token_is_made_listed_and_revoked(mlops: Mlops, fresh: Path) -> None:
    made = mlops("token", "create", "app", "--scope", "read", "--scope", "predict", "--days", "7", "--json", project=fresh)
    assert made.code == 0, made.err
    secret, about = made.json["secret"], made.json
    assert about["scopes"] == ["predict", "read"] and about["state"] == "valid" and not {"salt", "digest"} & set(about)
    [listed] = mlops("token", "list", "--json", project=fresh).json
    assert listed["name"] == "app" and secret not in str(listed)
    [kept] = TokenFile(fresh / ".zebraops/serving/tokens.json").tokens()
    assert belongs(secret, kept) and not belongs(secret[:-1], kept) and id_of(secret) == kept.id
    assert mlops("token", "create", "app", project=fresh).code == 8
    assert mlops("token", "revoke", "app", project=fresh).code == 0
    assert mlops("token", "revoke", "app", project=fresh).code == 4
    assert mlops("token", "create", "app", "--forever", "--json", project=fresh).json["expires_at"] is None
    assert [t["state"] for t in mlops("token", "list", "--json", project=fresh).json] == ["revoked", "valid"]
    audited = [(e.action, e.subject) for e in SqlAudit(f"sqlite:///{fresh}/.zebraops/state.db").entries()]
    assert audited == [("token.create", "token/app"), ("token.revoke", "token/app"), ("token.create", "token/app")]


def test_a_person_sees_the_secret_on_a_line_of_its_own(mlops: Mlops, fresh: Path) -> None:
    said = mlops("token", "create", "app", project=fresh)
    assert sum(line.startswith("zebra_") for line in said.out.splitlines()) == 1 and "may predict until" in said.out
    assert "valid" in mlops("token", "list", project=fresh).out
    for words in (("--json", "token", "list"), ("token", "--json", "list"), ("token", "list", "--json")):
        assert [t["name"] for t in mlops(*words, project=fresh).json] == ["app"]
    assert mlops("token", "--project", str(fresh), "list").out == mlops("token", "list", "--project", str(fresh)).out


@pytest.mark.parametrize(
    "words", [("create", "../x"), ("create", "x", "--scope", "root"), ("create", "x", "--days", "0"), ("revoke",), ("drop", "x")]
)
def test_what_cannot_be_meant_is_a_sentence_and_a_code(mlops: Mlops, fresh: Path, words: tuple[str, ...]) -> None:
    said = mlops("token", *words, project=fresh)
    assert said.code == 2 and "fix:" in said.err
    assert not (fresh / ".zebraops/serving/tokens.json").exists()


def test_a_file_that_is_no_file_of_tokens_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"tokens": [{"name": "x"}]}')
    with pytest.raises(SpecInvalid, match="no file of tokens"):
        TokenFile(path).add(mint("y", ["read"], at=now(), by="me").token)
    assert path.read_text() == '{"tokens": [{"name": "x"}]}'
