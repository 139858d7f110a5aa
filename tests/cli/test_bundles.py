"""Models in and out on the command line: what a person types, sees, and gets as exit codes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.cli.test_commands import Told, run_here
from tests.models.conftest import bundle, fitted, trips
from tests.models.test_signing import Key, make_key

from loopwright.models import Bundle
from loopwright.models.signing import fingerprint

__all__ = ["bundle", "fitted", "trips"]

pytestmark = pytest.mark.slow
CONTEXT = ("--dockerfile", "--base", "python:3.11-slim")


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> object:
        return os.system, (self.command,)


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the person is."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LOOPWRIGHT_WORKSPACE", raising=False)
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path, "ours")


def models(*arguments: str | Path) -> Told:
    return run_here("models", *map(str, arguments))


def test_the_way_of_a_bundle_from_an_empty_folder(ws: Path, bundle: Bundle, key: Key) -> None:
    made = models("import", bundle.folder, "--name", "trips", "--metric", "auc=0.83", "--json")
    assert made.code == 0, made.err
    digest = made.json()["bundle"]
    signed = models("sign", "trips", "--key", key.private, "--json")
    assert signed.json()["signatures"][0]["key"] == fingerprint(key.text)
    assert models("export", "trips", "out.zip").code == 0
    assert models("export", "model:trips@1", "out").code == 0
    assert models("import", "out.zip", "--name", "again", "--json").json()["bundle"] == digest
    for what in ("trips", "out", "out.zip"):
        assert models("verify", what, "--key", key.public).code == 0, what
        told = models("inspect", what)
        assert told.code == 0
        assert fingerprint(key.text)[:16] in told.out
    (ws / "trips").mkdir()  # a folder that is no bundle hides no model
    short = fingerprint(key.text)[:16]
    assert short in models("show", "trips").out
    assert "yes" in models("log", "trips").out  # signed
    assert models("show", "trips", "--json").json()["signatures"][0]["key"].startswith(short)
    shown = models("inspect", "trips", "--json").json()
    assert shown["version"]["metrics"] == {"auc": 0.83}
    assert shown["manifest"]["parity"]["passed"] is True


def test_exit_codes_say_what_went_wrong(ws: Path, bundle: Bundle, key: Key, tmp_path: Path) -> None:
    other = make_key(tmp_path, "other")
    (ws / "evil.pkl").write_bytes(pickle.dumps(Runs(f"touch {ws / 'it-ran'}")))
    assert models("import", bundle.folder, "--name", "trips").code == 0
    assert models("sign", "trips", "--key", key.private).code == 0
    codes = {
        ("verify", "trips", "--key", str(other.public)): 1,
        ("import", "evil.pkl", "--name", "m"): 2,
        ("import", "evil.pkl", "--name", "m", "--allow-pickle"): 2,
        ("import", "gone.onnx", "--name", "m"): 3,
        ("import", str(bundle.folder), "--name", "a:b"): 2,
        ("import", str(bundle.folder), "--name", "trips", "--metric", "high"): 2,
        ("export", "trips@9", "out"): 3,
        ("export", "trips", "."): 3,
        ("sign", "trips", "--key", "none.pem"): 3,
        ("sign", "trips"): 2,
        ("inspect", "nobody"): 3,
        ("card", "nobody"): 3,
    }
    found = {arguments: models(*arguments).code for arguments in codes}
    assert found == codes
    assert not (ws / "it-ran").exists()


def test_a_changed_byte_is_found_with_exit_code_5(ws: Path, bundle: Bundle) -> None:
    shutil.copytree(bundle.folder, ws / "copy")
    data = bytearray((ws / "copy" / "model.onnx").read_bytes())
    data[-1] ^= 1
    (ws / "copy" / "model.onnx").write_bytes(data)
    told = models("verify", "copy")
    assert told.code == 5
    assert "model.onnx" in told.err
    assert models("import", "copy", "--name", "m").code == 5


def test_a_folder_is_loaded_whole_and_signed_or_not_at_all(ws: Path, bundle: Bundle, key: Key) -> None:
    row = {name: [value] for name, value in zip(bundle.signature.names, [1.0, 2.0, 3, "AA", False, 0.5], strict=True)}
    pl.DataFrame(row).write_csv(ws / "rows.csv")
    shutil.copy(key.public, ws / "ours.pub")
    shutil.copytree(bundle.folder, ws / "trips")

    def codes() -> list[int]:
        scored = run_here("predict", "trips", "-i", "rows.csv", "-o", "answers.csv")
        made = [run_here("export", "edge", "trips", "edge"), run_here("export", "container", "trips", "box", *CONTEXT)]
        for folder in ("edge", "box"):
            shutil.rmtree(ws / folder, ignore_errors=True)
        (ws / "answers.csv").unlink(missing_ok=True)
        return [told.code for told in (scored, *made)]

    assert codes() == [0, 0, 0]
    (ws / "loopwright.toml").write_text('require_signed = true\ntrusted_keys = ["ours.pub"]\n')
    assert codes() == [3, 3, 3]
    shutil.rmtree(ws / "trips")
    assert models("import", bundle.folder, "--name", "trips").code == 0
    assert models("sign", "trips", "--key", key.private).code == 0
    assert models("export", "trips", "trips").code == 0
    assert codes() == [0, 0, 0]
    (ws / "trips" / "profile.sketch").write_bytes(b"changed")
    assert codes() == [5, 5, 5]


def test_settings_keep_unsigned_models_from_being_loaded(ws: Path, bundle: Bundle, key: Key) -> None:
    shutil.copy(key.public, ws / "ours.pub")
    (ws / "loopwright.toml").write_text('require_signed = true\ntrusted_keys = ["ours.pub"]\n')
    row = {name: [value] for name, value in zip(bundle.signature.names, [1.0, 2.0, 3, "AA", False, 0.5], strict=True)}
    pl.DataFrame(row).write_csv(ws / "rows.csv")
    assert models("import", bundle.folder, "--name", "trips").code == 0
    refused = run_here("predict", "model:trips", "-i", "rows.csv", "-o", "answers.csv")
    assert refused.code == 3
    assert "not signed" in refused.err
    assert models("verify", "trips").code == 1
    assert models("sign", "trips", "--key", key.private).code == 0
    assert run_here("predict", "model:trips", "-i", "rows.csv", "-o", "answers.csv").code == 0
    assert models("verify", "trips").code == 0
    assert "trusted" in models("inspect", "trips").out


def test_a_card_keeps_what_its_author_wrote(ws: Path, bundle: Bundle) -> None:
    assert models("import", bundle.folder, "--name", "trips").code == 0
    (ws / "words.md").write_text("Do not use it for **snow**. <script>alert(1)</script>\n")
    assert models("card", "trips", "--text", "words.md", "-o", "CARD.md").code == 0
    first = (ws / "CARD.md").read_text()
    assert "**snow**" in first
    (ws / "CARD.md").write_text(first.replace("stays -->\n", "stays -->\nAsk Ann before use.\n"))
    assert models("card", "trips", "-o", "CARD.md").code == 0
    again = (ws / "CARD.md").read_text()
    assert again.count("Ask Ann before use.") == 1
    assert models("card", "trips", "--html", "-o", "card.html").code == 0
    page = (ws / "card.html").read_text()
    assert "<strong>snow</strong>" in page
    assert "<script>" not in page
    assert "model:trips@1" in models("card", "trips", "--json").json()["card"]


def test_a_bill_of_materials_is_written(ws: Path, bundle: Bundle) -> None:
    assert models("import", bundle.folder, "--name", "trips").code == 0
    assert models("sbom", "trips", "-o", "bom.json").code == 0
    assert json.loads((ws / "bom.json").read_text())["specVersion"] == "1.6"
    assert models("sbom", "trips").json()["bomFormat"] == "CycloneDX"
