"""The store's face is light: each name loads its own part only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loopwright import store

HEAVY = ("sqlalchemy", "alembic", "polars", "deltalake", "numpy", "psycopg", "redis", "fsspec")


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement, refused",
    [
        ("import loopwright.store", HEAVY),
        ("from loopwright.store import JournalReader, JournalWriter", HEAVY),
        ("from loopwright.store import open_objects, checkout", ("sqlalchemy", "alembic", "polars", "deltalake")),
        ("from loopwright.store import open_stores", ("alembic", "polars", "deltalake", "numpy")),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, refused: tuple[str, ...]) -> None:
    assert loaded_by(statement).isdisjoint(refused)


def test_every_name_of_the_face_is_there() -> None:
    for name in store.__all__:
        assert getattr(store, name) is not None
    assert sorted(store.__all__) == store.__all__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        store.nonsense  # noqa: B018  (reading it is the point)


def test_no_module_of_the_room_hides_a_name_of_its_face() -> None:
    folder = Path(store.__file__).parent
    modules = {entry.stem for entry in folder.iterdir()}
    assert modules.isdisjoint(store.__all__)
