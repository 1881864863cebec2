"""What README and docs show is true: Python blocks run, command lines exist."""

import contextlib
import io
import pathlib
import re
import shlex
from dataclasses import dataclass

import pytest
import torch
import yaml
from typer.main import get_command

from tutelage.cli.__main__ import main
from tutelage.cli.commands import app
from tutelage.recipe import schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- not run: *(?P<reason>[^\n]*?) *-->\n+)?```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("list", "inspect", "doctor")
"""Commands that are cheap enough to be run as shown."""


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    reason: str | None
    line: int


def blocks(page: pathlib.Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["code"], m["reason"], text.count("\n", 0, m.start("code")) + 1)
        for m in BLOCK.finditer(text)
    ]


def pages_with(*languages: str) -> list:
    found = [page for page in PAGES if any(block.language in languages for block in blocks(page))]
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in found]


def command_lines(page: pathlib.Path) -> list[str]:
    lines = []
    for block in blocks(page):
        if block.language in ("bash", "console"):
            typed = block.code.replace("\\\n", " ").splitlines()
            if block.language == "console":
                typed = [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
            ours = ("tutelage ", "python -m tutelage ", "torchrun ")
            lines += [line.strip() for line in typed if line.startswith(ours)]
    return lines


def arguments(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return [word for word in words[words.index("tutelage") + 1 :] if word != "--debug"]


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python" and block.reason is None:
            code = "\n" * (block.line - 1) + block.code  # so that a traceback shows the page's own line
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, str(page), "exec"), names)


def test_a_block_that_is_not_run_says_why_and_stays_an_exception():
    reasons = [block.reason for page in PAGES for block in blocks(page) if block.reason is not None]
    assert all(reasons)
    assert len(reasons) <= 3


@pytest.mark.parametrize("page", pages_with("bash", "console"))
def test_every_command_line_parses(page):
    commands = get_command(app).commands
    for line in command_lines(page):
        command, *rest = arguments(line)
        assert command in commands, f"{page.name}: there is no command {command!r}: {line}"
        with commands[command].make_context(command, rest):  # raises where an option does not exist
            pass


def cheap_lines() -> list[str]:
    """`list models` imports every library of models."""
    lines = {line for page in PAGES for line in command_lines(page)}
    return sorted(line for line in lines if arguments(line)[0] in RUN and "list models" not in line)


@pytest.mark.parametrize("line", cheap_lines())
def test_cheap_command_lines_run_as_shown(line, capsys):
    assert main(arguments(line)) == 0
    assert capsys.readouterr().out


def test_help_and_the_page_of_commands_name_the_same_commands():
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `tutelage (\w+)", page, re.MULTILINE)) == set(get_command(app).commands)


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_yaml_blocks_are_recipes_or_parts_of_them(page):
    for block in blocks(page):
        if block.language == "yaml":
            schema.parse({"data": "digits", "student": "cifar/resnet8", **yaml.safe_load(block.code)})


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_parse_and_say_what_they_reproduce(recipe):
    schema.parse(schema.read(recipe))
    header = recipe.read_text(encoding="utf-8")
    for word in ("# source:", "# expected:", "# got:", "# date:"):
        assert word in header


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
