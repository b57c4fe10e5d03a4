"""Files that are the old or the new one."""

from pathlib import Path

import pytest

from prefrl.files import finite, replace_text


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(monkeypatch):
    Path("table.part").write_text("somebody's")
    replace_text(Path("table.csv"), "old")

    def fail(self, content):
        self.open("w").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space"):
        replace_text(Path("table.csv"), "new")
    assert sorted(path.name for path in Path().iterdir()) == ["table.csv", "table.part"]
    assert Path("table.csv").read_text() == "old"
    assert Path("table.part").read_text() == "somebody's"


def test_what_json_has_no_word_for_is_none():
    nan, inf = float("nan"), float("inf")
    assert finite({"a": 1.5, "b": nan, "c": {"d": -inf, "e": "x"}}) == {
        "a": 1.5,
        "b": None,
        "c": {"d": None, "e": "x"},
    }
