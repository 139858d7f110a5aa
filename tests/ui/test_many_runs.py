"""Two thousand runs over HTTP: pages by key, orders, columns, words, curves, files; hostile words everywhere."""

import re
import time
from urllib.parse import urljoin

import pytest
from tests.ui.conftest import Site
from tests.ui.crowd import HOSTILE, RUNS, SPIKE, Crowd
from tests.ui.test_pages import Reader

pytestmark = pytest.mark.slow

Crowded = tuple[Site, Crowd]
RUNS_PATH = "/p/default/runs"


def twin(site: Site, path: str, **query: object) -> dict[str, object]:
    answer = site.client().get(path, params={**query, "format": "json"})  # type: ignore[arg-type,dict-item]
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.slow
def test_pages_by_key_give_each_run_once_in_order(crowd_site: Crowded) -> None:
    http = crowd_site[0].client()
    path, seen, scores = f"{RUNS_PATH}?experiment=sweep&order=metrics.auc+DESC", [], []
    while path:
        found = http.get(path + "&format=json").json()
        seen += [run["id"] for run in found["runs"]]
        scores += [run["metrics"]["auc"] for run in found["runs"]]
        path = found["older"]
    assert len(seen) == len(set(seen)) == RUNS * 3 // 4
    assert scores == sorted(scores, reverse=True)


def test_the_links_of_a_page_lead_through_all_runs_without_a_script(crowd_site: Crowded) -> None:
    http = crowd_site[0].client()
    path, names = f"{RUNS_PATH}?filter=params.model+%3D+'lightgbm'&experiment=probe", set()
    pages = 0
    while path:
        page = http.get(path).text
        pages += 1
        names |= set(re.findall(r"sweep-\d{4}", page))
        more = re.search(r'href="([^"]*)" data-more', page)
        path = urljoin(path, more[1].replace("&amp;", "&")) if more else ""
    assert (len(names), pages) == (RUNS // 4, RUNS // 400)


@pytest.mark.slow
def test_chosen_columns_are_those_of_the_table(crowd_site: Crowded) -> None:
    page = crowd_site[0].client().get(f"{RUNS_PATH}?experiment=sweep&column=params.lr&column=tags.team").text
    [head] = re.findall(r"<thead>.*?</thead>", page, re.DOTALL)
    assert re.findall(r">([^<>\s]+)</(?:a|th)>", head) == ["run", "lr", "team"]


def test_the_baseline_is_marked_and_others_show_how_far_they_are_from_it(crowd_site: Crowded) -> None:
    page = crowd_site[0].client().get(f"{RUNS_PATH}?experiment=sweep&filter=name+LIKE+'sweep-001%25'").text
    assert page.count('<span class="badge champion">baseline</span>') == 1
    deltas = re.findall(r'<small class="delta"[^>]*>([^<]+)</small>', page)
    assert len(deltas) == 3 * (page.count('name="run"') - 1)
    assert all(text[0] in "+−±" for text in deltas)


def test_a_filter_is_completed_with_what_runs_have(crowd_site: Crowded) -> None:
    words = crowd_site[0].client().get("/p/default/words?experiment=sweep").json()
    assert {"metrics.auc", "params.lr", "tags.team", "status"} <= set(words["identifiers"])
    assert "metrics.auc" in words["numbers"]
    assert set(words["values"]["params.model"]) == {"lightgbm", "xgboost"}
    assert "params.optimizer" not in words["identifiers"]
    assert words["identifiers"][-1] != "params.`tried once`" in words["identifiers"], "only the oldest run has it"


def test_experiments_tell_how_many_runs_they_have(crowd_site: Crowded) -> None:
    found = twin(crowd_site[0], "/p/default/experiments")
    names = {item["id"]: item["name"] for item in found["experiments"]}  # type: ignore[attr-defined]
    counts = {names[id]: item["by_status"] for id, item in found["counts"].items()}  # type: ignore[attr-defined]
    assert counts["sweep"] == {"finished": 1500}
    assert counts["long"] == {"failed": 1, "finished": 1, "running": 1}


def test_the_curve_of_200_000_points_is_short_and_keeps_the_spike(crowd_site: Crowded) -> None:
    site, crowd = crowd_site
    found = site.client().get(f"/p/default/curves?run={crowd.long}&key=train/loss").json()
    by_role = {trace["meta"]["role"]: trace for trace in found["figure"]["data"]}
    assert len(by_role["line"]["x"]) <= 600
    assert max(by_role["high"]["y"]) == pytest.approx(SPIKE / 250)
    closer = site.client().get(f"/p/default/curves?run={crowd.long}&key=train/loss&first=123400.4&last=123500").json()
    line = next(trace for trace in closer["figure"]["data"] if trace["meta"]["role"] == "line")
    assert line["x"] == list(range(123_400, 123_501))
    assert line["y"][56] == pytest.approx(SPIKE / 250)


@pytest.mark.parametrize(
    "query", ["", "key=loss", "run=x", "run=x&key=loss", "run=RUN&key=loss&first=abc", "run=RUN&key=a&first=1e999"]
)
def test_a_malformed_question_for_a_curve_is_refused(crowd_site: Crowded, query: str) -> None:
    site, crowd = crowd_site
    answer = site.client().get(f"/p/default/curves?{query.replace('RUN', crowd.long)}&format=json")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]


def test_a_run_page_does_not_grow_with_the_length_of_its_metrics(crowd_site: Crowded) -> None:
    site, crowd = crowd_site
    http = site.client()
    http.get(f"{RUNS_PATH}/{crowd.long}")
    began = time.process_time()
    page = http.get(f"{RUNS_PATH}/{crowd.long}")
    assert len(page.content) < 400_000
    assert time.process_time() - began < 5  # a second at most on a machine of today
    assert "200\u2009000" in page.text


@pytest.mark.parametrize("tail", ["", "/files", "/code", "/system", "/files?path=error/traceback.txt"])
def test_hostile_words_of_a_run_are_text(crowd_site: Crowded, tail: str) -> None:
    site, crowd = crowd_site
    page = site.client().get(f"{RUNS_PATH}/{crowd.hostile}{tail}").text
    assert "<script>window" not in page
    assert HOSTILE in Reader(page).text
    assert not [name for name in Reader(page).attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "path", ["notes/readme.md", "tables/eval.csv", "tables/answers.json", "notes/log.txt", "page.html"]
)
def test_hostile_files_are_text(crowd_site: Crowded, path: str) -> None:
    site, crowd = crowd_site
    page = site.client().get(f"{RUNS_PATH}/{crowd.long}/files", params={"path": path}).text
    reader = Reader(page)
    assert "window.pwned" in reader.text
    assert "<script>window" not in page
    assert not [name for name in reader.attributes if name.startswith("on")]
    assert not [link for link in reader.links if link.startswith("javascript")]
    assert page.count("<img") == 1  # the logo


@pytest.mark.parametrize(
    "path", ["../../loopwright.toml", "/etc/passwd", "images/../../x", "nothing.txt", "images/nothing"]
)
def test_a_path_that_is_none_shows_no_file(crowd_site: Crowded, path: str) -> None:
    site, crowd = crowd_site
    answer = site.client().get(f"{RUNS_PATH}/{crowd.long}/files", params={"path": path})
    assert answer.status_code in (200, 400)
    assert "Download" not in answer.text
    assert str(site.ws.location.root) not in answer.text


def test_a_picture_may_be_shown_but_never_run(crowd_site: Crowded) -> None:
    site, crowd = crowd_site
    answer = site.client().get(f"{RUNS_PATH}/{crowd.long}/artifacts/images/vector.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.slow
def test_a_view_is_kept_with_its_experiment_and_can_be_forgotten(fresh: Site) -> None:
    fresh.ws.runs.start("sweep", name="one")
    query = "filter=status+%3D+%27running%27&experiment=sweep"
    fresh.ws.experiments.set_tag("sweep", "loopwright.view.running ones", query)
    page = fresh.client().get(f"{RUNS_PATH}?experiment=sweep").text
    [path] = re.findall(r'<a href="([^"]+)">running ones</a>', page)
    assert path.replace("&amp;", "&") == f"{RUNS_PATH}?{query}"
    assert "one" in fresh.client().get(path.replace("&amp;", "&")).text
    fresh.ws.experiments.delete_tag("sweep", "loopwright.view.running ones")
    assert "running ones" not in fresh.client().get(f"{RUNS_PATH}?experiment=sweep").text


@pytest.mark.slow
def test_a_saved_view_cannot_lead_elsewhere(fresh: Site) -> None:
    fresh.ws.runs.start("sweep", name="one")
    fresh.ws.experiments.set_tag("sweep", "loopwright.view.bad", "javascript:alert(1)")
    fresh.ws.experiments.set_tag("sweep", "loopwright.view.worse", "//evil.example")
    reader = Reader(fresh.client().get(f"{RUNS_PATH}?experiment=sweep").text)
    assert not [link for link in reader.links if link.startswith(("javascript", "//"))]


def test_hundreds_of_columns_and_a_long_filter_are_answered(crowd_site: Crowded) -> None:
    http = crowd_site[0].client()
    many = http.get(RUNS_PATH, params={"column": [f"params.p{n}" for n in range(300)]})
    assert many.status_code == 200
    wrong = http.get(RUNS_PATH, params={"filter": "(" * 5000})
    assert wrong.status_code == 200
    assert "note bad" in wrong.text
    tampered = http.get(RUNS_PATH, params={"after": "AAAA"})
    assert "note bad" in tampered.text


@pytest.mark.slow
def test_a_comparison_of_many_runs_draws_them_without_a_script(crowd_site: Crowded) -> None:
    site, crowd = crowd_site
    answer = site.client().get("/p/default/compare", params={"run": [*crowd.sweep[:40], crowd.baseline]})
    assert answer.status_code == 200
    assert answer.text.count("<polyline") == 40
    assert "baseline" in answer.text
    assert site.client().get("/p/default/compare", params={"run": crowd.sweep[:101]}).status_code == 400
