"""Print how large the package and its tests are, room by room, and what exceeds its bounds.

python .ci/size.py
"""

import ast
import io
import pathlib
import tokenize
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
BOUNDS = {"package lines": 18_500, "package code": 12_500, "package files": 115, "function": 60, "test lines": 19_500}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Size(NamedTuple):
    """Files, lines, and lines of code: imports count, docstrings, comments and blank lines do not."""

    files: int = 0
    lines: int = 0
    code: int = 0


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the numbers of the lines of all bare strings: docstrings, and those below attributes."""
    return {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def code_lines(text: str) -> int:
    """Count the lines that hold code."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(text)))


def measure(files: list[pathlib.Path]) -> Size:
    """Measure files together."""
    texts = [file.read_text("utf-8") for file in files]
    return Size(len(files), sum(text.count("\n") for text in texts), sum(map(code_lines, texts)))


def long_functions(file: pathlib.Path) -> list[str]:
    """List the functions of a file that are longer than the bound, their docstrings not counted."""
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            length = node.end_lineno - node.lineno + 1 - doc
            if length > BOUNDS["function"]:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    return found


def main() -> None:
    """Print the table and what exceeds its bound."""
    package = sorted((ROOT / "seq2seq").rglob("*.py"))
    rooms: dict[str, list[pathlib.Path]] = {}
    for file in package:
        parts = file.relative_to(ROOT / "seq2seq").parts
        rooms.setdefault(parts[0] if len(parts) > 1 else "(root)", []).append(file)
    print(f"{'room':<14}{'files':>6}{'lines':>8}{'code':>8}")
    tests = measure(sorted((ROOT / "tests").rglob("*.py")))
    whole = measure(package)
    for room, size in [*((room, measure(files)) for room, files in sorted(rooms.items())), ("package", whole)]:
        print(f"{room:<14}{size.files:>6}{size.lines:>8}{size.code:>8}")
    print(f"{'tests':<14}{tests.files:>6}{tests.lines:>8}{tests.code:>8}")
    reached = {
        "package lines": whole.lines,
        "package code": whole.code,
        "package files": whole.files,
        "test lines": tests.lines,
    }
    for name, value in reached.items():
        print(f"{name}: {value:,} of {BOUNDS[name]:,}{'' if value <= BOUNDS[name] else '  TOO MANY'}")
    for place in [place for file in package for place in long_functions(file)]:
        print(place)


if __name__ == "__main__":
    main()
