"""Bundles through a server: the same digests and refusals as without one; keys stay where they are."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
import polars as pl
import pytest
from tests.models.conftest import bundle, fitted, trips
from tests.models.test_signing import Key, make_key
from tests.serve.conftest import adding_bundle
from tests.server import prompt

from loopwright.cli.main import main
from loopwright.core import Conflict, Forbidden, Invalid, NotFound, Scope
from loopwright.govern import Authenticator, Role, TokenService
from loopwright.models import About, Bundle, Leave, bundle_in, import_model, trust_of
from loopwright.models.model import sealed
from loopwright.models.signing import fingerprint
from loopwright.serve import listen
from loopwright.server import RemoteWorkspace, ServerSettings, create_app
from loopwright.server.run import services_of
from loopwright.store import Stores
from loopwright.track import RunStatus
from loopwright.workspace import Workspace

__all__ = ["bundle", "fitted", "trips"]

pytestmark = pytest.mark.slow


@pytest.fixture
def local(stores_sqlite: Stores) -> Workspace:
    return Workspace(stores_sqlite, Scope())


@contextmanager
def served(local: Workspace, auth: Literal["local", "required"]) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    settings = ServerSettings(hosts=(host,), auth=auth, loopback=True)
    app = create_app(services_of(local), Authenticator(local.stores), settings, lambda: None)
    with prompt.serving(app, listener):
        yield f"http://{host}"


@pytest.fixture
def url(local: Workspace) -> Iterator[str]:
    with served(local, "local") as address:
        yield address


@pytest.fixture
def remote(url: str) -> Iterator[RemoteWorkspace]:
    with RemoteWorkspace(url) as opened:
        yield opened


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path, "ours")


def test_a_bundle_goes_up_is_signed_and_comes_down_the_same(
    local: Workspace,
    remote: RemoteWorkspace,
    bundle: Bundle,
    key: Key,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = import_model(remote.models, bundle.folder, "trips", About(metrics={"auc": 0.9}), Leave())
    assert made.bundle == local.models.get("trips").bundle
    assert made.metrics == {"auc": 0.9}
    signed = remote.models.sign("trips", key.private)
    assert [item.key for item in signed.signatures] == [fingerprint(key.text)]
    assert local.models.verify("trips", (key.text,)).passed
    kept = remote.models.bundle("trips")  # with what a process needs that serves only what is signed
    assert bundle_in(kept.folder, trust_of(True, [str(key.public)], tmp_path)).signature == bundle.signature
    written = remote.models.export("trips", tmp_path / "out.zip")
    again = import_model(local.models, written, "again", About(), Leave())
    assert again.bundle == made.bundle
    assert again.signatures[0].key == fingerprint(key.text)


def test_what_is_known_is_told_over_a_server_as_well(local: Workspace, remote: RemoteWorkspace, bundle: Bundle) -> None:
    local.models.register("trips", bundle)
    assert remote.models.inspect("trips") == local.models.inspect("trips")
    assert remote.models.verify("trips") == local.models.verify("trips")
    assert remote.models.card("trips") == local.models.card("trips")
    assert remote.models.sbom("trips") == local.models.sbom("trips")
    with pytest.raises(NotFound):
        remote.models.inspect("nobody")


def sent(url: str, data: bytes, **query: str) -> httpx.Response:
    headers = {"content-type": "application/zip", "Loopwright-CSRF": "1"}
    return httpx.post(f"{url}/api/v1/bundles/trips", content=data, headers=headers, params=query)


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def test_what_is_no_bundle_is_refused_by_the_server_itself(local: Workspace, url: str, bundle: Bundle) -> None:
    """Whatever a client says or leaves out: the server judges what it was sent."""
    whole = {path.name: path.read_bytes() for path in bundle.folder.iterdir()}
    cases = {
        "no zip": (b"words", 400, "damaged, or no zip"),
        "climbing": (zipped({**whole, "../evil": b"x"}), 400, "not a safe relative path"),
        "no manifest": (zipped({"model.onnx": b"x"}), 400, "no bundle"),
        "a changed graph": (zipped({**whole, "model.onnx": b"x"}), 400, "not what was built"),
        "a file more": (zipped({**whole, "evil.pkl": pickle.dumps(print)}), 400, "does not name"),
    }
    for name, (data, status, told) in cases.items():
        answer = sent(url, data)
        assert (answer.status_code, told in answer.json()["error"]["message"]) == (status, True), (name, answer.text)
        assert str(local.stores.data) not in answer.text
    assert local.models.list() == []
    assert not list(local.stores.data.glob("upload-*"))
    assert sent(url, zipped(whole), about="[]").status_code == 400


def test_a_bundle_that_runs_code_has_to_be_asked_for_by_name(local: Workspace, url: str, bundle: Bundle) -> None:
    import msgspec

    from loopwright.core import digest_bytes, encode

    data = pickle.dumps(bundle.signature.names)
    files = {path.name: path.read_bytes() for path in bundle.folder.iterdir()} | {"extra.pkl": data}
    digests = {**bundle.manifest.files, "extra.pkl": digest_bytes(data)}
    files["bundle.json"] = encode(sealed(msgspec.structs.replace(bundle.manifest, files=digests)))
    for about in ("", '{"allow_pickle": true}'):
        answer = sent(url, zipped(files), about=about)
        assert answer.status_code == 403
        assert "can run code" in answer.json()["error"]["message"]
    assert local.models.list() == []


def test_errors_reach_the_caller_as_their_own_kind(remote: RemoteWorkspace, bundle: Bundle, tmp_path: Path) -> None:
    remote.models.register("trips", bundle)
    (tmp_path / "taken").write_text("x")
    with pytest.raises(Conflict, match="exists already"):
        remote.models.export("trips", tmp_path / "taken")
    with pytest.raises(NotFound, match="openssl"):
        remote.models.sign("trips", tmp_path / "none.pem")
    with pytest.raises(Invalid, match="not a signature"):
        remote.models.add_signature("trips", "{}", make_key(tmp_path, "k").text)
    with pytest.raises(Invalid, match="cannot name a model"):
        remote.models.register("a:b", bundle)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(bundle.signature.names))
    with pytest.raises(Forbidden, match="--allow-pickle"):
        import_model(remote.models, tmp_path / "m.pkl", "m", About(), Leave())


def test_bundles_go_only_to_and_from_those_who_may(local: Workspace, bundle: Bundle) -> None:
    local.models.register("trips", bundle)
    whole = zipped({path.name: path.read_bytes() for path in bundle.folder.iterdir()})
    token = {
        who: TokenService(local.stores, Scope(project, "user:test")).create("ann", role).secret
        for who, project, role in (
            ("viewer", "default", Role.VIEWER),
            ("editor", "default", Role.EDITOR),
            ("outsider", "elsewhere", Role.ADMIN),
        )
    }
    with served(local, "required") as url:

        def ask(who: str) -> tuple[int, int]:
            headers = {"authorization": f"Bearer {token[who]}"} if who in token else {}
            headers |= {"loopwright-project": "default"}
            down = httpx.get(f"{url}/api/v1/bundles/trips/1/model.onnx", headers=headers)
            headers |= {"content-type": "application/zip"}
            up = httpx.post(f"{url}/api/v1/bundles/more", content=whole, headers=headers)
            return down.status_code, up.status_code

        assert {who: ask(who) for who in ("nobody", "viewer", "editor", "outsider")} == {
            "nobody": (401, 401),
            "viewer": (200, 403),
            "editor": (200, 200),
            "outsider": (403, 403),
        }
        headers = {"authorization": f"Bearer {token['viewer']}"}
        for path in ("../bundle.json", "%2e%2e/secret", "nothing"):
            assert httpx.get(f"{url}/api/v1/bundles/trips/1/{path}", headers=headers).status_code in (400, 404)


def test_files_here_are_scored_by_a_fetched_model_and_told_to_the_server(
    local: Workspace, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    version = local.models.register("adder", adding_bundle(1.0, tmp_path / "adding"))
    pl.DataFrame({"id": range(9), "x": [float(number) for number in range(9)]}).write_parquet(tmp_path / "in.parquet")
    predict = ["predict", "model:adder", "-w", url, "-i", str(tmp_path / "in.parquet"), "--json", "-o"]
    assert main([*predict, str(tmp_path / "a.csv")]) == 0
    assert pl.read_csv(tmp_path / "a.csv")["value"].to_list() == [number + 1.0 for number in range(9)]
    [run] = local.runs.search("", experiment="scoring")
    assert (run.status, run.metrics["rows"], run.params["model"]) == (RunStatus.FINISHED, 9.0, version.ref)
    assert {node.ref for node in local.lineage.trace(f"run:{run.id}").nodes} >= {version.ref}
    kept = tmp_path / "cache" / "loopwright" / "bundles" / version.bundle
    (kept / "bundle.json").write_text("{}")
    assert main([*predict, str(tmp_path / "b.csv")]) == 0
    (kept / "model.onnx").write_bytes(b"changed")
    assert main([*predict, str(tmp_path / "c.csv")]) == 0
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()  # it was fetched anew
    assert (kept / "model.onnx").read_bytes() != b"changed"
    assert main([*predict, "dataset:answers"]) == Invalid.exit_code
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["a.csv", "b.csv", "c.csv"]
