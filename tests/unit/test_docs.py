"""The documentation speaks of what is there: every command, every link, every recipe and board."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from edgeseg.cli.app import app
from edgeseg.doctor.run import run_checks
from edgeseg.machine.boards import list_boards, list_recipes, load_board, read_toml
from tests.doctors import describe_machine

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs/**/*.md", "quantize/*.md", "devices/**/*.md", "examples/*.md")
PAGES = sorted([ROOT / "README.md", *(page for folder in FOLDERS for page in ROOT.glob(folder))])


def list_commands() -> dict[str, Any]:
    """List every command."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {sub}": step for sub, step in inner.items()}
    return found


@pytest.mark.parametrize("name", sorted(list_commands()))
def test_every_command_is_documented_and_has_an_example(name: str) -> None:
    assert f"edgeseg {name}" in (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert f"Example: `edgeseg {name}" in list_commands()[name].help


def test_every_option_is_documented() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*/*.md"))
    told = set(re.findall(r"--[a-z][a-z0-9-]*", pages))
    for name, command in list_commands().items():
        shown = [option for option in command.params if not getattr(option, "hidden", False)]
        options = {text for option in shown for text in option.opts if text.startswith("--")}
        assert options <= told, name


def list_printed_commands(page: Path) -> list[str]:
    """List the command lines of edgeseg that a page prints, in indented blocks and in code spans."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^ {4}(?:[^#\n]*?[ /])?(edgeseg [a-z][^#\n|]*)", text, re.MULTILINE)
    return blocks + re.findall(r"`(edgeseg [a-z][^`]*)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_printed_command_and_its_options_exist(page: Path) -> None:
    commands = list_commands()
    for line in list_printed_commands(page):
        words = re.split(r"\s+(?:&&|>|;)\s+", line)[0].split()[1:]
        name = next((name for name in (" ".join(words[:2]), words[0]) if name in commands), None)
        assert name is not None or words[0] in {"data", "model"}, line
        if name is not None:
            known = {text for option in commands[name].params for text in (*option.opts, *option.secondary_opts)}
            given = {word.partition("=")[0].rstrip(".,") for word in words if re.match(r"--[a-z]", word)}
            assert given <= known | {"--help"}, line


LINKED = sorted({*PAGES, ROOT / "CHANGELOG.md", *ROOT.glob("benchmarks/**/*.md")})


def list_anchors(page: Path) -> set[str]:
    """List the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    texts = (re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_in_it(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        linked = page.parent / target if target else page
        assert linked.is_file(), link
        assert not anchor or anchor in list_anchors(linked), link


def find_missing_modules(page: Path) -> list[str]:
    """List the files below edgeseg/ that a page names and that do not exist."""
    named = set(re.findall(r"`(?:edgeseg/)?([a-z_]+/[a-z_/]+\.(?:py|js))`", page.read_text(encoding="utf-8")))
    roots = (ROOT / "edgeseg", ROOT)
    return sorted(name for name in named if not any((root / name).is_file() for root in roots))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_named_module_exists(page: Path) -> None:
    assert find_missing_modules(page) == []


def test_walks_through_the_code_count_their_files() -> None:
    page = (ROOT / "docs/explanation/structure.md").read_text(encoding="utf-8")
    walks = [part for part in page.split("\n### ") if " hand-overs" in part]
    for walk in walks:
        (files, steps), *_ = re.findall(r"`: (\d+) files, (\d+) hand-overs", walk)
        rows = re.findall(r"^\| \d+ \| `([^`]+)`", walk, re.MULTILINE)
        assert (int(files), int(steps)) == (len(set(rows)), len(rows) - 1)
    assert len(walks) == 3


FROM_ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//|<link\b[^>]*\bhref=["'](?:https?:)?//"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//"""
)


@pytest.mark.integration
@pytest.mark.skipif(importlib.util.find_spec("furo") is None, reason="the packages of the extra docs are not installed")
def test_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, ".", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert (tmp_path / "site" / re.findall(r"url=([^\"]+)", first)[0]).is_file()
    files = [path for path in (tmp_path / "site").rglob("*") if path.suffix in {".html", ".css"}]
    assert [str(path) for path in files if FROM_ELSEWHERE.search(path.read_text(encoding="utf-8"))] == []
    reference = (tmp_path / "site/docs/reference/api.html").read_text(encoding="utf-8")
    assert 'id="edgeseg.stream"' in reference
    for asset in ('<script src="https://cdn/x.js"', '<link rel="stylesheet" href="//cdn/x.css"', "url(https://cdn/x)"):
        assert FROM_ELSEWHERE.search(asset)


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = [page for page in (ROOT / "docs").glob("*/*.md") if page.parent.name != "decisions"]
    assert [page.name for page in pages if f"({page.parent.name}/{page.name})" not in index] == []


def test_every_recipe_and_board_is_listed() -> None:
    recipes = (ROOT / "quantize/README.md").read_text(encoding="utf-8")
    boards = (ROOT / "devices/README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in recipes for name in list_recipes())
    assert all(name in boards for name in list_boards())


def test_symptoms_lead_to_lines_that_the_doctor_prints(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
    lists = re.findall(r"`edgeseg doctor[^`]*`: ((?:`[a-z 0-9]+`(?:, )?)+)", page)
    named = {name for text in lists for name in re.findall(r"`([^`]+)`", text)}
    printed = {check.name for check in run_checks(describe_machine(tmp_path), load_board("generic-aarch64"))}
    assert len(named) >= 20
    assert named <= printed


@pytest.mark.parametrize("name", sorted(list_boards()))
def test_recipes_of_a_board_are_those_of_its_profile(name: str) -> None:
    rows = re.findall(r"^\| ([\w, -]+) \| `([\w,-]+)`", (ROOT / "quantize/README.md").read_text("utf-8"), re.MULTILINE)
    (recipes,) = [recipes for boards, recipes in rows if name in boards.split(", ")]
    assert tuple(recipes.split(",")) == load_board(name).recommended.recipes


TEXTS = sorted(
    path
    for folder in ("docs", "devices", "examples", "quantize", "benchmarks", "edgeseg", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".md", ".py", ".sh", ".toml", ".html", ".js"} and path != Path(__file__).resolve()
)
UNREGISTERED = re.compile(r"""pip3? install (-\S+ )*["']?edgeseg(?![-/])|["']edgeseg\[""")
"""edgeseg asked of a package registry, which has none."""


def test_nothing_tells_to_install_from_a_registry() -> None:
    files = [ROOT / "README.md", ROOT / "Makefile", ROOT / "CHANGELOG.md", *TEXTS]
    assert [str(path) for path in files if UNREGISTERED.search(path.read_text(encoding="utf-8"))] == []
    assert UNREGISTERED.search("pip install edgeseg")
    assert UNREGISTERED.search("pip install 'edgeseg[train]'")
    assert not UNREGISTERED.search("pip install ./edgeseg-*.whl")


def test_every_extra_is_explained_and_no_other_is_named() -> None:
    extras = set(read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]) - {"dev"}
    page = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == extras
    named = {
        name
        for path in PAGES
        for names in re.findall(r"\.\[([a-z,]+)\]'", path.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert named <= extras


JOBS = sorted((ROOT / "docs/how-to/jobs").iterdir())


def list_job_scripts(path: Path) -> list[str]:
    """List the shell scripts of a job: the file itself, or what its containers run."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sh":
        return [text]
    documents = list(pytest.importorskip("yaml").safe_load_all(text))
    assert {"batch/v1", "v1"} >= {one["apiVersion"] for one in documents}
    (job,) = [one for one in documents if one["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "OnFailure"
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["command"] == ["sh", "-c"]
    return [argument for container in pod["containers"] for argument in container["args"]]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_jobs_are_scripts_that_a_shell_reads_and_run_commands_that_exist(path: Path) -> None:
    scripts = list_job_scripts(path)
    assert scripts
    commands = list_commands()
    for script in scripts:
        shell = "bash" if path.suffix == ".sh" else "sh"
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        ((name, options),) = re.findall(r"exec .*(train|tune)\b(.*)", script)
        known = {text for option in commands[name].params for text in option.opts}
        assert set(re.findall(r"--[a-z-]+", options)) <= known


REMOVED = ("--int8", "--fp16", "--best")


def test_flags_that_tensorrt_11_removed_stand_under_the_versions_that_have_them() -> None:
    page = (ROOT / "docs/how-to/jetson-onnx.md").read_text(encoding="utf-8")
    before, _, after = page.partition("**TensorRT 11**")
    for line in after.splitlines():
        assert not (line.startswith("    ") and any(flag in line for flag in REMOVED)), line
    assert sum("trtexec --onnx" in line for line in after.splitlines()) >= 2
    assert "TensorRT 8 and 10" in before


def test_it_is_said_that_this_is_no_medical_device() -> None:
    assert "no medical device" in (ROOT / "README.md").read_text(encoding="utf-8")


def read_instructions() -> list[str]:
    """Read the instructions of the Containerfile, continued lines joined."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_images_copy_the_wheel_that_make_wheel_leaves_and_nothing_else() -> None:
    copied = [line.split()[1] for line in read_instructions() if line.startswith(("COPY", "ADD"))]
    assert copied == ["dist/edgeseg-*.whl"]
    assert f"rm -f {copied[0]}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"!{copied[0]}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_images_install_known_extras_on_known_stages() -> None:
    lines = read_instructions()
    stages = [line.split()[-1] for line in lines if line.startswith("FROM")]
    assert stages == ["python", "workstation", "device"]
    assert [line.split()[1] for line in lines if line.startswith("FROM")][1:] == ["python", "python"]
    extras = set(read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"])
    named = {name for line in lines for names in re.findall(r"\)\[([a-z,]+)\]", line) for name in names.split(",")}
    assert "train" in named
    assert named <= extras
