"""The inference process loads only what is signed, where that is asked for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.models.test_signing import Key, make_key
from tests.serve.conftest import Served, adding_bundle

from loopwright.core import Unavailable
from loopwright.models import Bundle, sign_folder
from loopwright.serve import InferenceProcess, ProcessSettings, ServedEndpoint, Variant

pytestmark = pytest.mark.fault


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path, "ours")


@pytest.fixture
def strict(served: Served, key: Key, tmp_path: Path) -> Callable[..., InferenceProcess]:
    """A function that starts a process which trusts one key and loads nothing else; what it says goes into a file."""

    def start(bundle: Path | None = None) -> InferenceProcess:
        settings = ProcessSettings(
            state=served.state,
            objects=str(tmp_path / "objects"),
            cache=tmp_path / "cache",
            trusted_keys=(key.public,),
            require_signed=True,
            bundle=bundle,
            await_state=bundle is not None,
        )
        with (tmp_path / "said").open("ab") as said:
            process = InferenceProcess.launch(settings, stderr=said)
        served.processes.append(process)
        return process

    return start


def endpoint(served: Served, bundle: Bundle, *signatures: bytes) -> ServedEndpoint:
    kept = tuple(served.objects.put_bytes(data) for data in signatures)
    return ServedEndpoint("e", "salt", (Variant("v1", "model:m@1", served.put(bundle), signatures=kept),))


def answer(url: str) -> int:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    found = httpx.post(f"{url}/v2/models/e/infer", json=body)
    assert "/cache/" not in found.text  # no reply carries a path
    return found.status_code


def becomes(url: str, status: int, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while answer(url) != status:
        assert time.monotonic() < end, answer(url)
        time.sleep(0.05)


def test_a_bundle_is_served_from_the_moment_that_it_is_signed(
    served: Served, strict: Callable[..., InferenceProcess], key: Key, tmp_path: Path
) -> None:
    bundle = adding_bundle(1.0, tmp_path / "plus")
    stranger = sign_folder(bundle.folder, make_key(tmp_path, "stranger").private)
    served.publish(endpoint(served, bundle))
    process = strict()
    assert answer(process.url) == 503
    served.publish(endpoint(served, bundle, stranger))
    time.sleep(0.5)
    assert answer(process.url) == 503
    served.publish(endpoint(served, bundle, stranger, sign_folder(bundle.folder, key.private)))
    becomes(process.url, 200)
    said = (tmp_path / "said").read_text()
    assert "not signed" in said
    assert "which is not trusted here" in said


def test_a_signature_over_another_bundle_lets_nothing_in(
    served: Served, strict: Callable[..., InferenceProcess], key: Key, tmp_path: Path
) -> None:
    first, second = adding_bundle(1.0, tmp_path / "plus1"), adding_bundle(2.0, tmp_path / "plus2")
    served.publish(endpoint(served, second, sign_folder(first.folder, key.private)))
    process = strict()
    assert answer(process.url) == 503
    assert "is not what the key" in (tmp_path / "said").read_text()


def test_a_folder_is_served_only_with_a_signature_inside(
    served: Served, strict: Callable[..., InferenceProcess], key: Key, tmp_path: Path
) -> None:
    bundle = adding_bundle(1.0, tmp_path / "plus")
    served.publish(endpoint(served, bundle))
    with pytest.raises(Unavailable):
        strict(bundle.folder)
    assert "not signed" in (tmp_path / "said").read_text()
    (bundle.folder / "signatures").mkdir()
    (bundle.folder / "signatures" / "ours.sig").write_bytes(sign_folder(bundle.folder, key.private))
    assert answer(strict(bundle.folder).url) == 200


def test_a_process_without_keys_imports_nothing_that_verifies(tmp_path: Path) -> None:
    """Verification costs 40 MB of libraries, which a process that asks for none does not pay."""
    import sys

    program = (
        "import sys; import loopwright.serve.process;"
        "print([name for name in ('model_signing', 'sigstore', 'cryptography', 'OpenSSL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
