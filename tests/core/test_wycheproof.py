"""Project Wycheproof's JSON web vectors, all of them, through our import of keys and our check of signatures.

None that is invalid may be taken. Those that are valid and refused all the same are counted by the reason: algorithms
that are not on our list, keys that name another algorithm, and encryption, which access tokens here do not have.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.http.settings import TokenLimits
from penstock.http.signatures import BadToken, read_signed, verify_signed, verifying_keys

ALLOWED = ("ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519")
LIMITS = TokenLimits()


@pytest.fixture(scope="session")
def vectors(shared_data: Path, need: Any) -> Path:
    folder = shared_data / "wycheproof"
    need("data", folder.is_dir(), "the folder data/wycheproof holds Wycheproof's json_web_*.json")
    return folder


def cases(folder: Path, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, test) of one file."""
    for group in json.loads((folder / f"json_web_{name}_test.json").read_text())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def outcome(group: dict[str, Any], test: dict[str, Any]) -> str:
    """`taken`, or why it was refused."""
    text = test.get("jws") or test.get("jwe")
    if not isinstance(text, str):
        text = json.dumps(text)
    given = group.get("public") or group["private"]
    document = given if "keys" in given else {"keys": [given]}
    try:
        keys = verifying_keys(document, algorithms=ALLOWED, keys_max=10)
    except ValueError as error:
        return f"keys: {error}"
    try:
        verify_signed(read_signed(text, LIMITS), keys, ALLOWED)
    except BadToken as error:
        return f"token: {error}"
    return "taken"


def reason(group: dict[str, Any], test: dict[str, Any]) -> str:
    """Why a valid vector is none of ours."""
    if "jwe" in test:
        return "encrypted"
    given = group.get("public") or group["private"]
    algorithm = json.loads(_decoded(test["jws"].split(".")[0]))["alg"]
    if algorithm not in ALLOWED:
        return algorithm
    return "own alg of the key" if given.get("alg") not in (None, algorithm) else "unexplained"


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        (
            "signature",
            16,
            {"HS256": 10, "RS384": 4, "RS512": 4, "PS384": 6, "PS512": 4, "ES512": 2},
        ),
        ("key", 1, {"HS256": 2, "HS384": 1, "HS512": 1}),
        ("crypto", 2, {"HS256": 2, "encrypted": 2}),
        ("encryption", 0, {"encrypted": 65}),
    ],
)
def test_no_invalid_vector_is_taken_and_each_refused_valid_one_is_explained(vectors, name, taken, refused):
    wrongly_taken, wrongly_refused, good = [], Counter[str](), 0
    for group, test in cases(vectors, name):
        found = outcome(group, test)
        if test["result"] != "valid":
            if found == "taken":
                wrongly_taken.append((test["tcId"], group.get("comment"), test["comment"]))
        elif found == "taken":
            good += 1
        else:
            wrongly_refused[reason(group, test)] += 1
    assert wrongly_taken == []
    assert (good, dict(wrongly_refused)) == (taken, refused)


def test_all_649_vectors_are_there(vectors):
    counts = [len(list(cases(vectors, name))) for name in ("signature", "encryption", "key", "crypto")]
    assert counts == [401, 139, 26, 83]
