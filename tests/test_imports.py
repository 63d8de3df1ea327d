"""Holds every import of the product against the table of rooms (README, Architecture): down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"dstack": ROOT / "app" / "dstack", "dstack_runner": ROOT / "runner" / "dstack_runner"}

BASE = ("dstack.errors", "dstack.version", "dstack.wire")
BELOW_SERVICES = (
    *BASE,
    "dstack.git",
    "dstack.language",
    "dstack.providers",
    "dstack.server.bus",
    "dstack.server.clock",
    "dstack.server.decide",
    "dstack.server.forge_events",
    "dstack.server.gateways",
    "dstack.server.models",
    "dstack.server.report",
    "dstack.server.rush",
    "dstack.server.settings",
    "dstack.server.store",
    "dstack.server.transitions",
    "dstack.server.vault",
    "dstack.server.wiring",
)

# Room -> what it may import. The longest matching name of a module is its room.
ROOMS: dict[str, tuple[str, ...]] = {
    "dstack": (*BASE, "dstack.providers.base"),
    "dstack.errors": (),
    "dstack.version": (),
    "dstack.wire": BASE,
    "dstack.git": ("dstack.errors",),
    "dstack.client": (*BASE,),
    "dstack.language": (*BASE,),
    "dstack.providers": (*BASE, "dstack.language"),
    "dstack.demo": (),
    "dstack.cli": (
        *BASE, "dstack", "dstack.client", "dstack.git", "dstack.language", "dstack.providers", "dstack.demo",
    ),
    # The one command that starts the server in this process.
    "dstack.cli.server": (*BASE, "dstack.cli", "dstack.git", "dstack.server.serve", "dstack.server.settings"),
    "dstack.server": (
        *BELOW_SERVICES,
        "dstack.server.services",
        "dstack.server.handlers",
        "dstack.server.timers",
        "dstack.server.web",
    ),
    "dstack.server.serve": ("dstack.server", "dstack.errors"),
    "dstack.server.bus": (),
    "dstack.server.rush": (),
    "dstack.server.clock": ("dstack.server.decide",),
    "dstack.server.settings": BASE,
    "dstack.server.vault": ("dstack.errors", "dstack.server.models"),
    "dstack.server.failpoints": ("dstack.errors",),
    "dstack.server.wiring": BELOW_SERVICES,
    "dstack.server.models": BASE,
    "dstack.server.decide": (*BASE, "dstack.language", "dstack.providers", "dstack.server.gateways.forge_facts"),
    "dstack.server.forge_events": ("dstack.errors", "dstack.server.gateways.forge_facts"),
    # Pure texts: it knows what is said at a forge, and not by which calls.
    "dstack.server.report": (
        *BASE, "dstack.language", "dstack.server.decide", "dstack.server.models",
        "dstack.server.gateways.forge_facts", "dstack.server.gateways.forge_writes",
    ),
    "dstack.server.store": (*BASE, "dstack.server.bus", "dstack.server.models", "dstack.server.failpoints"),
    "dstack.server.gateways": (*BASE, "dstack.git"),
    "dstack.server.transitions": (
        *BASE, "dstack.server.bus", "dstack.server.decide", "dstack.server.models", "dstack.server.store",
        "dstack.server.failpoints",
    ),
    "dstack.server.services": (*BELOW_SERVICES, "dstack", "dstack.server.failpoints"),
    "dstack.server.handlers": (*BELOW_SERVICES, "dstack.server.services", "dstack.server.failpoints"),
    "dstack.server.web": (*BELOW_SERVICES, "dstack", "dstack.server.services", "dstack.server.failpoints"),
    "dstack_runner": ("dstack", "dstack.errors", "dstack.version", "dstack.wire", "dstack.client", "dstack.git"),
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            names = [package, *(part for part in parts if part != "__init__")]
            if "versions" not in names and "project" not in names:
                yield ".".join(names), path


def room_of(module: str) -> str:
    return max((room for room in ROOMS if is_within(module, room)), key=len)


def is_within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            found.add(node.module or "")
    return {name for name in found if name.partition(".")[0] in SOURCES}


def allowed(module: str, imported: str) -> bool:
    room = room_of(module)
    if is_within(imported, room) and (room != "dstack" or imported == "dstack"):
        return True
    return any(imported == name if name == "dstack" else is_within(imported, name) for name in ROOMS[room])


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_down_only(module: str, path: Path) -> None:
    wrong = sorted(name for name in imports_of(path) if not allowed(module, name))
    assert not wrong, f"{module} (room {room_of(module)}) must not import {', '.join(wrong)}"


def test_services_import_no_other_service() -> None:
    for module, path in modules():
        if module.startswith("dstack.server.services."):
            others = {name for name in imports_of(path) if name.startswith("dstack.server.services.")}
            assert not others, f"{module} imports {others}"


def test_the_api_of_providers_needs_the_standard_library_alone() -> None:
    """A custom provider's environment has nothing of ours but the wheel."""
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from dstack import Provider, Job, Resources, Gpu; "
        "import dstack.providers.run; "
        "bad = {'pydantic', 'yaml', 'requests', 'sqlmodel', 'git'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(ROOT / "app")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
