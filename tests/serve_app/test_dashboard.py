"""Grafana's dashboard asks for what the server tells, and leaves nothing of it out."""

from __future__ import annotations

import json
import re

import pytest

from docs.generate import HERE
from engine.error_codes import error_classes
from serve_app import errors as http_errors
from tests.serve_app.dashboard import (
    DASHBOARD,
    SELECTOR,
    asked_series,
    choices,
    chosen_model,
    declared_series,
    queries,
)

DECLARED = declared_series()


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_series_and_labels_that_are_declared(query: str) -> None:
    groups = re.findall(r"\bby \(([^)]*)\)", query)
    grouped = {label for labels in groups for label in labels.split(", ")}
    selectors = re.findall(SELECTOR, query)
    assert selectors
    for series, matchers in selectors:
        assert series in DECLARED
        named = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert named | grouped <= DECLARED[series][1], series


@pytest.mark.parametrize("query", queries())
def test_what_counts_up_is_asked_for_as_a_rate_and_nothing_else_is(query: str) -> None:
    rated = set(re.findall(rf"rate\({SELECTOR}\[\$__rate_interval\]\)", query))
    for selector in set(re.findall(SELECTOR, query)):
        assert (selector in rated) == (DECLARED[selector[0]][0] != "Gauge"), selector
    quantiles = re.findall(rf"histogram_quantile\([\d.]+, sum by \(le\) \(rate\({SELECTOR}", query)
    assert all(series.endswith("_bucket") for series, _ in quantiles)
    assert len(quantiles) == query.count("histogram_quantile")


@pytest.mark.parametrize("query", queries())
def test_a_query_is_of_the_models_that_are_chosen_where_its_series_tell_them(query: str) -> None:
    for series, matchers in re.findall(SELECTOR, query):
        assert ('model=~"$model"' in matchers.split(",")) == ("model" in DECLARED[series][1])


def test_models_are_chosen_among_those_that_are_told_and_at_first_all_with_what_has_none() -> None:
    series, label = chosen_model()
    assert label == "model" and label in DECLARED[series][1]
    variable = choices()["model"]
    assert variable["query"]["query"] == variable["definition"]
    assert variable["includeAll"] and variable["current"]["value"] == ["$__all"]
    assert re.fullmatch(variable["allValue"], "")  # of a request whose model is not known yet


def _metric(series: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", series.removeprefix("ray_"))


def test_every_metric_is_on_the_dashboard() -> None:
    metrics = {_metric(series) for series in DECLARED}
    assert len(metrics) > 10 and {_metric(series) for series in asked_series()} == metrics


def test_every_metric_is_in_the_table_for_operators() -> None:
    page = (HERE / "serving.md").read_text()
    for series in DECLARED:
        name = _metric(series)
        stage = re.fullmatch(r"rayedit_(\w+)_seconds", name)
        assert f"`{name}" in page or (stage and f"`_{stage[1]}_`" in page), name


def test_a_code_that_a_query_names_is_one() -> None:
    known = {error.code for error in error_classes() + error_classes(http_errors.__name__)}
    named = [codes for query in queries() for codes in re.findall(r'code=~"([^"]*)"', query)]
    assert named and {code for codes in named for code in codes.split("|")} <= known


def test_panels_do_not_cover_each_other_and_have_a_datasource_that_can_be_chosen() -> None:
    board = json.loads(DASHBOARD.read_text())
    source, model = choices()["datasource"], choices()["model"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        for asks in (model, panel, *panel["targets"]):
            assert asks["datasource"] == {"type": "prometheus", "uid": f"${{{source['name']}}}"}
