"""Which pictures a suite's results give."""

import pytest
from compare import ROWS

from prefrl.bench.plots import draw
from prefrl.bench.results import Row
from prefrl.bench.summary import summarise


@pytest.mark.parametrize(
    ("labels", "drawn"),
    [((30, 60), True), ((30, 30), False), ((200, 199), False)],
    ids=["budgets", "one budget", "one left unasked"],
)
def test_return_against_labels_is_drawn_where_a_task_has_several_budgets(labels, drawn, tmp_path):
    """Tasks that differ in their labels have a point each, and no line."""
    rows = [Row(task, "true", 0, 10.0, 0.0, steps=1000) for task in ("A-v0", "B-v0")]
    rows += [Row(task, "random-actions", 0, 0.0, 0.0) for task in ("A-v0", "B-v0")]
    for task, more in (("A-v0", 0), ("B-v0", 10)):
        for name, count in zip(("few", "many"), labels, strict=True):
            answered = count + more
            rows.append(Row(task, name, 0, 5.0, 0.0, labels_answered=answered, steps=1000))
    summaries = summarise(rows, reference="true")
    paths = draw(tmp_path, rows, [], summaries, title="A test.", reference="true")
    assert ("labels" in {path.stem for path in paths}) == drawn


def test_pictures_stand_odd_words_and_outliers(tmp_path):
    rows = [
        *ROWS,
        Row("A-v0", "few", 2, 1e9, 0.0, labels_answered=5, steps=1000),
        Row("B-v0", "$x_$y", 0, -20.0, 0.0, labels_answered=9, steps=500),
    ]
    title = "What costs $1 and $2? " * 12
    summaries = summarise(rows, reference="true", baseline="few")
    paths = draw(tmp_path, rows, [], summaries, title=title, reference="true", baseline="few")
    assert {path.stem for path in paths} == {"curves", "conditions", "profile", "labels"}
    assert "$x_$y" in (tmp_path / "conditions.svg").read_text()
