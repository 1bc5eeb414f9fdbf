"""The house's rules that a machine can hold: who imports whom, names, sizes, pins."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "app",
    "worker",
    "supervisor",
    "encoder",
    "editing",
    "registry",
    "client",
    "demo",
    "benchmark",
    "recipes",
    "servers",
    "chaos",
)
SOURCES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
NAMELESS = {"utils", "util", "common", "helpers", "base", "core", "misc"}
BROAD_EXCEPTS_ALLOWED = 2  # one a process, at its edge


def _modules_after(statement: str) -> set[str]:
    """Top-level names of every module loaded in a fresh interpreter after ``statement``."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import app.main", {"editing", "worker", "supervisor", "benchmark", "demo", "recipes"}),
        ("import registry.corrections, registry.edit_jobs", {"torch", "fastapi", "celery"}),
        ("import encoder.clip, encoder.pool", {"fastapi", "celery", "sqlalchemy", "editing"}),
        ("import editing.gate, editing.methods", {"fastapi", "celery", "sqlalchemy", "registry"}),
        ("import client", {"torch", "fastapi", "sqlalchemy", "app", "registry"}),
    ],
)
def test_a_room_loads_no_stranger(statement: str, forbidden: set[str]) -> None:
    assert not _modules_after(statement) & forbidden


def test_the_import_contracts_hold() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if re.search(r"os\.environ|os\.getenv|BaseSettings", path.read_text())
    }
    starters = {
        "benchmark/images.py",
        "benchmark/vqa_throughput.py",
        "chaos/local_stack.py",
        "client/local_service.py",
        "supervisor/child.py",
        "supervisor/processes.py",
    }  # they hand theirs on
    assert readers - starters == {"registry/deployment.py"}


def test_every_module_says_what_it_is() -> None:
    silent = [str(p.relative_to(ROOT)) for p in SOURCES if not ast.get_docstring(_tree(p))]
    assert not [path for path in silent if (ROOT / path).read_text().strip()]


def test_every_file_is_a_noun_of_its_own() -> None:
    assert not [str(p) for p in SOURCES if p.stem in NAMELESS]


def test_broad_excepts_stand_only_at_process_edges() -> None:
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    ]
    assert len(broad) <= BROAD_EXCEPTS_ALLOWED, broad


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
    )


def test_weights_are_never_pickled() -> None:
    pattern = re.compile(r"\bimport pickle|torch\.(save|load)\(|np\.load\([^)]*allow_pickle=True")
    # One published checkpoint has no other format: torch's restricted loader reads it.
    restricted = 'torch.load(file, map_location="cpu", weights_only=True)'
    sources = {str(p.relative_to(ROOT)): p.read_text() for p in SOURCES}
    reader = "encoder/vlm/minigpt.py"
    assert sources[reader].count(restricted) == 1
    sources[reader] = sources[reader].replace(restricted, "")
    assert not [path for path, text in sources.items() if pattern.search(text)]


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(entry for extra in extras for entry in extra)]
    pins = {
        _normal(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {_normal(re.split(r"[\[<>=!~ ]", entry)[0]) for entry in wanted} - {"emend"}
    assert names <= pins


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_architecture_page_shows_every_file_in_its_place() -> None:
    folders, files = _drawn_tree((ROOT / "ARCHITECTURE.md").read_text())
    # A folder with nothing drawn in it stands for all that it holds.
    whole = {one for one in folders if not any(each.startswith(one) for each in files)}
    kept = {
        file
        for file in _files_of_the_checkout()
        if not file.endswith("/__init__.py") and not any(file.startswith(one) for one in whole)
    }
    assert sorted(kept - files) == []
    assert sorted(file for file in files if not (ROOT / file).is_file()) == []
    assert sorted(one for one in folders if not (ROOT / one).is_dir()) == []
    assert {f"{room}/" for room in (*ROOMS, "migrations", "tests")} <= folders


def _files_of_the_checkout() -> set[str]:
    listing = ["git", "ls-files", "-z"]
    try:
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as why:
        pytest.skip(f"this is no git checkout: {why}")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def _drawn_tree(page: str) -> tuple[set[str], set[str]]:
    """Folders (with a slash at the end) and files of the first drawing on the page.

    A line holds one folder or some names, then two spaces and a remark; two spaces of indentation
    are one level; a name without an ending is a Python module, unless a file is called just that.
    """
    folders, files = set(), set()
    above: list[str] = []
    for line in page.split("```")[1].strip("\n").split("\n"):
        text = line.lstrip(" ")
        if not text:
            continue
        above = above[: (len(line) - len(text)) // 2]
        path = "".join(above)
        names = re.split(" {2,}", text)[0].split(" ")
        if names[0].endswith("/"):
            above.append(names[0])
            folders.add(path + names[0])
            continue
        files |= {
            path + name if (ROOT / path / name).is_file() else f"{path}{name}.py" for name in names
        }
    return folders, files


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
