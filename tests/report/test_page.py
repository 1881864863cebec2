import base64
import html
import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from tutelage import report
from tutelage.errors import MissingExtra, RunError
from tutelage.report.pictures import colour_key, pictures


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def _without_plotly(page):
    return re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)


def test_one_file_is_written_into_the_run_folder(run):
    before = {file.name for file in run.iterdir()}
    file = report.write([run])
    assert file == run / "report.html"
    assert {file.name for file in run.iterdir()} - before == {"report.html"}


def test_several_runs_go_beside_the_first_or_where_they_are_told_to(folders, run, tmp_path):
    other = folders.write_run(tmp_path / "b")
    assert report.write([run, other]) == tmp_path / "comparison.html"
    assert report.write([run, other], tmp_path / "new" / "x.html") == tmp_path / "new" / "x.html"
    assert len(Elements((tmp_path / "comparison.html").read_text()).of("details")) >= 2


def test_the_page_says_whose_figures_it_shows_where_there_are_several_seeds(folders, run, tmp_path):
    told = "Of the first seed's models."
    assert told not in html.unescape(report.write([run]).read_text())
    assert told in html.unescape(report.write([folders.write_run(tmp_path / "two", seeds=2)]).read_text())


def test_a_page_that_cannot_be_finished_leaves_the_old_one(run, monkeypatch):
    (run / "report.html").write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(RunError, match=r"disk full.*--out"):
        report.write([run])
    assert (run / "report.html").read_text() == "old"
    assert not [left for left in run.iterdir() if left.name.startswith(".report")]


def test_nothing_on_the_page_points_outside_it(run):
    elements = Elements(report.write([run]).read_text())
    assert not [script for script in elements.of("script") if "src" in script]
    assert [link["href"] for link in elements.of("link")] == ["data:,"]
    assert all(image["src"].startswith("data:image/png;base64,") for image in elements.of("img"))
    (policy,) = (meta["content"] for meta in elements.of("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_plotly_is_embedded_once_however_many_runs(folders, run, tmp_path):
    page = report.write([run, folders.write_run(tmp_path / "b")]).read_text()
    assert page.count("* plotly.js v") == 1


def test_a_class_name_is_text_and_no_script(run):
    page = _without_plotly(report.write([run]).read_text())
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_recipe_and_manifest_are_text(folders, run):
    (run / "recipe.yaml").write_text("</pre><script>alert(2)</script>")
    folders.change_json(run / "manifest.json", command="<img src=x onerror=alert(3)>")
    page = _without_plotly(report.write([run]).read_text())
    assert "&lt;/pre&gt;&lt;script&gt;alert(2)" in page
    assert "<img src=x" not in page


def test_the_figures_on_the_page_are_strict_json(run):
    page = report.write([run]).read_text()
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert len(found) == 8
    for text in found:
        assert json.loads(text, parse_constant=pytest.fail)["data"]


def test_an_interrupted_run_still_gets_its_curves(folders, run):
    page = _without_plotly(report.write([folders.interrupt(run)]).read_text())
    assert "This run has not finished" in page
    assert "Raw loss of each path" in page
    assert "On the test split" not in page


@pytest.mark.parametrize("kept", ["recipe.yaml", "manifest.json", "metrics.jsonl", "result.json"])
def test_any_single_file_of_a_run_is_enough_for_a_page(run, kept):
    for file in run.iterdir():
        if file.name != kept:
            file.unlink()
    assert f"{kept} is not there" not in report.write([run]).read_text()


def test_runs_of_the_same_name_go_by_their_folders(folders, run, tmp_path):
    other = folders.write_run(tmp_path / "later" / "a")
    page = report.write([run, other], tmp_path / "both.html").read_text()
    assert f"<summary>{other}</summary>" in page
    assert f"<summary>{run}</summary>" in page


def test_pictures_come_back_pixel_by_pixel_with_what_was_said(run):
    read = report.read(run)
    first = pictures(read)[0]
    at = int(read.samples["pictures/position"][0])
    raw = base64.b64decode(first.source.partition(",")[2])
    drawn = torch.tensor(list(Image.open(io.BytesIO(raw)).tobytes())).reshape(32, 32, 3).permute(2, 0, 1)
    assert torch.equal(drawn, read.samples["pictures/image"][0].long())
    assert first.small
    assert first.truth == read.evaluation["classes"][int(read.samples["target"][at])]
    assert first.index == 1000 + at
    assert [answer.model for answer in first.answers] == [
        "student",
        "baseline",
        "teacher wide",
        "teacher big",
    ]
    for answer in first.answers:
        assert answer.right == (answer.said == first.truth)


def test_no_run_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        report.write([])


def test_a_bad_folder_writes_nothing(run, tmp_path):
    with pytest.raises(RunError, match="absent"):
        report.write([run, tmp_path / "absent"], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_a_missing_extra_is_answered_with_the_line_to_install_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"jinja2.*pip install 'tutelage\[train\]'"):
        report.write([run])


def _mask(run, **changes):
    """The first class in red, the second in green, and pixels without one, in what one model said of two pictures."""
    read = report.read(run)
    panel = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    panel[0, 0], panel[1, 1] = 255, 255
    panel[1, :, 0] = 0
    samples = {**read.samples, "pictures/panel/truth": panel}
    colours = ["#ff0000", "#00ff00", "#0000ff"]
    return replace(read, samples=samples, evaluation={"classes": ["cat", "dog", "cow"], "colours": colours} | changes)


def test_the_key_names_the_colours_that_are_seen(run):
    assert colour_key(_mask(run)) == [("cat", "#ff0000"), ("dog", "#00ff00"), ("without a class", "#000000")]
    assert colour_key(_mask(run, colours=[])) == []
    assert colour_key(report.read(run)) == []
    assert 'class="colours"' not in _without_plotly(report.write([run]).read_text())


def test_a_colour_that_is_none_never_reaches_the_page(run):
    assert colour_key(_mask(run, colours=["red;position:fixed", "#00ff00"])) == [
        ("dog", "#00ff00"),
        ("without a class", "#000000"),
    ]
