"""What was stored before long names were allowed is there afterwards, and long names are."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from tests.track.test_migrations import upgrade_to, url

from loopwright.monitor.tables import prediction_slots
from loopwright.release.tables import endpoints
from loopwright.store.db import Database, open_database
from loopwright.store.db.engines import parse_url

__all__ = ["url"]


@pytest.mark.usefixtures("tmp_path")
def test_endpoints_and_their_figures_outlive_the_longer_names(url: str | Path, migrations: tuple[str, ...]) -> None:
    old = Database(parse_url(url))
    with old.begin() as tx:
        for revision in ("release_0001", "monitor_0001"):
            upgrade_to(tx, revision, migrations)
        tx.execute(
            text(
                "INSERT INTO endpoints (name, project, model, salt, stable, previous, shares, rollout, revision,"
                " created_at, actor) VALUES ('e', 'default', 'delay', 's', 'model:delay@1', '', '[]', '', 1, 5, 'a')"
            )
        )
        tx.execute(
            text(
                "INSERT INTO prediction_slots VALUES"
                " ('default', 'e', 900000000, 'model:delay@1', 7, 1, 7, 1.5, 2.5, 3, 0.5, 0.25)"
            )
        )
    old.close()

    database = open_database(url, migrations)
    long = "n" * 256
    with database.begin() as tx:
        row = tx.execute(select(endpoints)).one()
        assert (row.name, row.model, row.stable) == ("e", "delay", "model:delay@1")
        slot = tx.execute(select(prediction_slots)).one()
        assert (slot.model, slot.rows, slot.loss_squared) == ("model:delay@1", 7, 0.25)
        tx.execute(insert(endpoints).values({**row._mapping, "name": "f", "model": long}))
        tx.execute(insert(prediction_slots).values({**slot._mapping, "model": f"model:{long}@12345"}))
    database.close()
