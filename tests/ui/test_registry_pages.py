"""Models of every kind on their pages: what they hold, stages, aliases, who serves them, files; hostile words."""

from pathlib import Path

import pytest
from tests.ui.conftest import Site
from tests.ui.crowd import HOSTILE
from tests.ui.test_pages import Reader

from loopwright.models import Stage
from loopwright.workspace import Workspace

MLMODEL = b"flavors:\n  python_function: {}\nnote: <script>window.pwned=1</script>\n"


def registered(ws: Workspace) -> None:
    """A name that other registries allow, with an MLflow folder and with a version that is elsewhere."""
    run = ws.runs.start("foreign", name="trained elsewhere")
    ws.runs.log_artifact(run.id, MLMODEL, "model/MLmodel")
    ws.runs.log_artifact(run.id, b"\x80\x04weights", "model/data/model.pkl")
    ws.models.create("Fraud model (EU)", tags={"team": HOSTILE}, description=HOSTILE)
    ws.models.register_source(
        "Fraud model (EU)",
        "runs:/x/model",
        owner=f"run:{run.id}",
        folder="model",
        run=run.id,
        tags={HOSTILE[:60]: HOSTILE},
    )
    ws.models.register_source("Fraud model (EU)", "s3://bucket/model", run_link="https://example.org/run/1")
    ws.models.set_alias("Fraud model (EU)", "champion", 1)
    ws.models.transition("model:Fraud model (EU)@1", Stage.PRODUCTION)


@pytest.mark.slow
def test_a_version_that_is_no_bundle_says_what_it_holds_and_why_it_is_not_served(fresh: Site) -> None:
    registered(fresh.ws)
    http = fresh.client()
    folder = http.get("/p/default/models/Fraud model (EU)/1")
    assert folder.status_code == 200
    text = Reader(folder.text).text
    for told in (
        "mlflow",
        "Production",
        "champion",
        "MLmodel",
        "python_function",
        "data/model.pkl",
        "no server loads it",
    ):
        assert told in text, told
    elsewhere = Reader(http.get("/p/default/models/Fraud model (EU)/2").text).text
    for told in ("s3://bucket/model", "https://example.org/run/1", "no files here"):
        assert told in elsewhere, told
    assert "Fraud model (EU)" in Reader(http.get("/p/default/models/Fraud model (EU)/champion").text).text


@pytest.mark.slow
def test_a_file_of_a_version_is_a_download_of_exactly_its_bytes(fresh: Site) -> None:
    registered(fresh.ws)
    http = fresh.client()
    links = Reader(http.get("/p/default/models/Fraud model (EU)/1").text).links
    [path] = [link for link in links if link.endswith("files/MLmodel")]
    answer = http.get(path)
    assert answer.content == MLMODEL
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert http.get(path + "x").status_code == 404
    assert http.get(path.replace("MLmodel", "..%2F..%2Fx")).status_code in (400, 404)


@pytest.mark.slow
def test_names_are_found_by_a_filter_and_show_stage_and_tags(fresh: Site) -> None:
    registered(fresh.ws)
    fresh.ws.models.create("other")
    http = fresh.client()
    links = Reader(http.get("/p/default/models?filter=name+LIKE+'Fraud%25'").text).links
    assert "/p/default/models/Fraud%20model%20%28EU%29" in links
    assert "/p/default/models/other" not in links
    assert "No model fits" in http.get("/p/default/models?filter=name+%3D+'none'").text
    assert "note bad" in http.get("/p/default/models?filter=nonsense+%3E%3E").text
    assert "No version yet" in http.get("/p/default/models/other").text


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "/Fraud model (EU)", "/Fraud model (EU)/1", "/Fraud model (EU)/2"])
def test_hostile_words_of_models_are_text(fresh: Site, path: str) -> None:
    registered(fresh.ws)
    page = fresh.client().get(f"/p/default/models{path}").text
    assert "<script>window" not in page
    assert not [name for name in Reader(page).attributes if name.startswith("on")]


def test_a_served_version_names_its_endpoint(site: Site) -> None:
    http = site.client()
    assert "/p/default/endpoints/delay" in Reader(http.get("/p/default/models/delay/1").text).links
    assert "/p/default/endpoints/delay" in Reader(http.get("/p/default/models").text).links
    card = http.get("/p/default/models/delay/1").text
    assert "<h1>delay, version 1</h1>" in card


@pytest.mark.slow
def test_every_page_flags_what_can_run_code_and_what_is_signed(fresh: Site, tmp_path: Path) -> None:
    from tests.models.test_signing import make_key
    from tests.serve.conftest import adding_bundle

    registered(fresh.ws)
    http = fresh.client()
    fresh.ws.models.delete_version("model:Fraud model (EU)@2")
    for page in ("models", "models/Fraud model (EU)", "models/Fraud model (EU)/1"):
        assert "runs code" in Reader(http.get(f"/p/default/{page}").text).text, page
    assert "recognised by their names" in Reader(http.get("/p/default/models/Fraud model (EU)/1").text).text
    fresh.ws.models.register("plus", adding_bundle(1.0, tmp_path / "plus"))
    assert "Nobody has signed it" in Reader(http.get("/p/default/models/plus/1").text).text
    key = make_key(tmp_path, "ours")
    made = fresh.ws.models.sign("plus", key.private)
    version = Reader(http.get("/p/default/models/plus/1").text).text
    assert made.signatures[0].key[:8] in version
    assert "runs code" not in version
    assert "signed" in Reader(http.get("/p/default/models/plus").text).text
