"""Which pictures a suite's results give."""

import pytest

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
