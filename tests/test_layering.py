"""The structure that the glossary in authproxy/__init__.py promises."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

import authproxy

ROOT = pathlib.Path(authproxy.__file__).parent
PURE = (
    "wire", "trust", "forwarding", "sites", "spellings", "guards", "pages", "settings",
    "places", "values", "crosschecks", "config", "toml",
)  # fmt: skip
LINES_OF_MODULE = 375
LINES_OF_FUNCTION = 60


def modules() -> dict[str, ast.Module]:
    """Dotted name below authproxy ("" itself) -> tree; a package is its __init__."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(), str(path))
    return found


MODULES = modules()
PACKAGES = {name.rpartition(".")[0] for name in MODULES if "." in name}


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from nodes(child)


def imports(name: str) -> Iterator[str]:
    """Dotted names that a module imports at run time, in full: "authproxy.wire.heads"."""
    package = name if name in PACKAGES or not name else name.rpartition(".")[0]
    for node in nodes(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = ["authproxy", *package.split(".")] if package else ["authproxy"]
                above = above[: len(above) - node.level + 1]
                source = ".".join([*above, source] if source else above)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def ours(name: str) -> set[str]:
    """The modules of ours that a module imports at run time."""
    found = set()
    for imported in imports(name):
        if not imported.startswith("authproxy."):
            continue
        dotted = imported.removeprefix("authproxy.")
        while dotted and dotted not in MODULES:
            dotted = dotted.rpartition(".")[0]
        if dotted:  # else a name of authproxy itself, which imports nothing
            found.add(dotted)
    return found


def glossary() -> list[str]:
    """The layers, from the top of the list down."""
    lines = re.findall(r"^ {4}(\S.*?)(?: {2,}.*)?$", authproxy.__doc__ or "", re.MULTILINE)
    return [name.strip().rstrip("/") for line in lines for name in line.split(",")]


class LayeringTests(SynchronousTestCase):
    def test_the_glossary_has_every_module_once(self) -> None:
        top = sorted({name.partition(".")[0] for name in MODULES} - {""})
        self.assertEqual(sorted(glossary()), top)

    def test_imports_point_down(self) -> None:
        """That is up in the glossary, where the lowest layer stands first."""
        order = {name: place for place, name in enumerate(glossary())}
        for name in MODULES:
            for imported in ours(name):
                here, there = name.partition(".")[0], imported.partition(".")[0]
                if here != there:
                    self.assertLess(order[there], order[here], f"{name} imports {imported}")

    def test_no_cycle_inside_a_package(self) -> None:
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            self.assertNotIn(name, path, "a cycle of imports")
            if name not in done:
                for imported in ours(name) - {name}:
                    visit(imported, (*path, name))
                done.add(name)

        for name in MODULES:
            visit(name, ())

    def test_pure_modules_know_no_twisted(self) -> None:
        for name in MODULES:
            if name.partition(".")[0] in PURE:
                for imported in imports(name):
                    self.assertNotEqual(imported.partition(".")[0], "twisted", name)

    def test_who_imports_the_reactor(self) -> None:
        found = {name for name in MODULES if "twisted.internet.reactor" in imports(name)}
        self.assertEqual(found, {"tap", "worker", "commands.demo"})

    def test_sizes(self) -> None:
        for name, tree in MODULES.items():
            path = ROOT.joinpath(*name.split("."))
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            lines = len(path.read_text().splitlines())
            self.assertLessEqual(lines, LINES_OF_MODULE, f"lines of {name or '__init__'}")
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    length = (node.end_lineno or 0) - node.lineno + 1
                    self.assertLessEqual(length, LINES_OF_FUNCTION, f"{name}.{node.name}")
