"""The schema that migrations make is the schema that the code declares, for every room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from sqlalchemy import Connection, inspect
from tests.conftest import ROOT, room_migrations
from tests.tables import declare_all

from loopwright.store import Json, Stores, UtcTime, metadata
from loopwright.store.db.upgrade import REVISIONS_TABLE, migration_context, script_directory
from loopwright.store.db.versions import known_versions

PACKAGE = ROOT / "src" / "loopwright"

ON_POSTGRESQL = {
    "remove_column": {"found_value", "fresh"},
    "remove_index": {"ix_run_series_found", "ix_run_series_fresh"},
    "add_index": {"ix_run_series_last"},
}
"""What PostgreSQL alone has or lacks, by design; tests/track/test_plans.py shows it in use."""


def differences(connection: Connection) -> list[object]:
    known = ON_POSTGRESQL if connection.dialect.name == "postgresql" else {}
    found = compare_metadata(migration_context(connection), metadata)
    return [entry for entry in found if not _is_harmless(entry, known)]


def _is_harmless(entry: object, known: Mapping[str, set[str]]) -> bool:
    """Alembic's own table is nobody's; and SQLite cannot tell Json and UtcTime from what they are made of."""
    if not isinstance(entry, tuple):
        return False
    return entry[-1].name in {"remove_table": {REVISIONS_TABLE}, **known}.get(entry[0], ())


def test_migrations_make_the_schema_that_the_code_declares(stores: Stores) -> None:
    declare_all()
    with stores.db.read() as connection:
        assert differences(connection) == []


def test_the_comparison_notices_a_missing_column_table_and_index(stores: Stores) -> None:
    declare_all()
    with stores.db.begin() as tx:
        tx.exec_driver_sql("DROP INDEX ix_events_kind_position")
        tx.exec_driver_sql("DROP TABLE lineage_edges")
        tx.exec_driver_sql("ALTER TABLE events DROP COLUMN cause")
    with stores.db.read() as connection:
        kinds = {entry[0] for entry in differences(connection) if isinstance(entry, tuple)}
    assert {"add_index", "add_table", "add_column"} <= kinds


def test_indexes_have_the_same_columns_and_conditions(stores: Stores) -> None:
    declare_all()
    with stores.db.read() as connection:
        found = inspect(connection)
        for table in metadata.tables.values():
            made = {index["name"]: index["column_names"] for index in found.get_indexes(table.name)}
            declared = {index.name: [column.name for column in index.columns] for index in table.indexes}
            if stores.db.dialect == "postgresql":
                declared = {
                    name: columns for name, columns in declared.items() if name not in ON_POSTGRESQL["add_index"]
                }
            assert {name: made.get(name) for name in declared} == declared, table.name


@pytest.mark.parametrize("package", room_migrations())
def test_a_rooms_revisions_form_one_line_of_its_own(package: str) -> None:
    room = package.split(".")[1]
    scripts = script_directory(known_versions(room_migrations()))
    own = [script for script in scripts.walk_revisions() if script.revision.startswith(f"{room}_")]
    files = sorted((PACKAGE / room / "migrations").glob("[0-9]*.py"))
    assert len(own) == len(files), "each file is one revision named <room>_<number>"
    assert {Path(script.path).name.split("_")[0] for script in own} == {s.revision.split("_")[-1] for s in own}
    roots = [script for script in own if script.down_revision is None]
    assert [script.branch_labels for script in roots] == [{room}]
    assert all(str(script.down_revision).startswith(f"{room}_") for script in own if script not in roots)


def test_every_json_and_time_column_is_of_the_shared_types() -> None:
    declare_all()
    for table in metadata.tables.values():
        for column in table.columns:
            name = type(column.type).__name__
            assert name not in ("JSON", "DateTime", "TIMESTAMP", "PickleType"), f"{column}: {name}"
    assert isinstance(metadata.tables["events"].c.evidence.type, Json)
    assert isinstance(metadata.tables["events"].c.at.type, UtcTime)
