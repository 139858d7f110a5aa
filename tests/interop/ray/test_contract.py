"""What holds for steps in processes of this machine holds for steps on Ray: the same tests, word for word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.pipeline import test_running

from loopwright.core import Location, Scope, Settings
from loopwright.pipeline import PipelineService
from loopwright.store import open_stores
from loopwright.track import RunService

globals().update({name: item for name, item in vars(test_running).items() if name.startswith("test_")})


@pytest.fixture(scope="module", autouse=True)
def kept_ray(migrations: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A session that stays open, so that Ray is started once for all of these tests."""
    root = tmp_path_factory.mktemp("kept")
    stores = open_stores(Location(root, root / ".loopwright", Settings(compute="ray")), migrations)
    service = PipelineService(stores, Scope(), runs=RunService(stores, Scope()))
    with service.session():
        yield
    stores.close()
