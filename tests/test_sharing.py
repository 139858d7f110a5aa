import ast
from pathlib import Path

from tests.sharing import FOLDERS, ROOT, unit_of


def test_what_shares_something_stays_on_one_worker_and_the_rest_goes_anywhere() -> None:
    plans = "tests/track/test_plans.py"
    assert unit_of(f"{plans}::test_a[sqlite]") == unit_of(f"{plans}::test_b[a::b/c]") == plans
    assert unit_of("tests/ui/test_pages.py::test_a") == unit_of("tests/ui/test_runs.py::test_b") == "tests/ui"
    assert unit_of("tests/core/test_words.py::test_a[x]") == "tests/core/test_words.py::test_a[x]"


def test_every_fixture_that_lasts_longer_than_a_test_is_known() -> None:
    """A file that makes one stands alone on its worker; a folder's is listed, or costs too little to matter."""
    cheap = {"tests/data", "tests/serve", "tests/server"}  # paths, an array, a copied database
    below = [path for path in (ROOT / "tests").glob("*/**/conftest.py") if "interop" not in path.parts]
    found = {path.parent.relative_to(ROOT).as_posix() for path in below if _lasts(path)}
    assert found - cheap <= set(FOLDERS)
    assert all((ROOT / folder).is_dir() for folder in FOLDERS)


def _lasts(path: Path) -> bool:
    return any(
        isinstance(node, ast.keyword) and node.arg == "scope" and ast.unparse(node.value) != "'function'"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
