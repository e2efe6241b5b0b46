"""Write docs/images/packages.svg: the packages and their doors, from the import contracts."""

import ast
import textwrap
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "packages.svg"
WIDTH, LINE, GAP, NAME, TEXT = 960, 18, 8, 150, 560
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2937 }
.name { font: 600 14px ui-monospace, monospace; fill: #ffffff }
.door { font: 12px ui-monospace, monospace; fill: #0f766e }
rect { fill: #f1f5f9 } .box { fill: #0f766e }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e7eb } .name { fill: #ffffff } .door { fill: #5eead4 } rect { fill: #1f2937 }
  .box { fill: #0f766e }
}
"""


def contracts() -> list[dict[str, object]]:
    """Return the import contracts of the project."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return list(tomllib.load(file)["tool"]["importlinter"]["contracts"])


def packages() -> list[str]:
    """Return the packages, top to bottom, that are there."""
    (first,) = (c for c in contracts() if c.get("exhaustive"))
    names = [str(layer).strip("()") for layer in first["layers"]]  # type: ignore[attr-defined]
    return [name for name in names if (ROOT / "src" / "strop" / name / "__init__.py").is_file()]


def doors() -> dict[str, list[str]]:
    """Return which packages of others each package imports, by the contracts that protect them."""
    modules: dict[str, list[str]] = {}
    for contract in contracts():
        for module in contract.get("protected_modules", ()):  # type: ignore[attr-defined]
            for importer in contract["allowed_importers"]:  # type: ignore[attr-defined]
                name = importer.split(".")[1]
                if not module.startswith("strop") and module not in modules.setdefault(name, []):
                    modules[name].append(module)
    return modules


def sentence(name: str) -> str:
    """Return the first sentence of a package's docstring."""
    source = (ROOT / "src" / "strop" / name / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].replace("\n", " ")


def picture() -> str:
    """Return the picture as SVG."""
    shapes, y, through = [], GAP, doors()
    for name in packages():
        lines = textwrap.wrap(sentence(name), 76)
        modules = textwrap.wrap(", ".join(through.get(name, ())), 28)
        height = LINE * max(len(lines), len(modules)) + 12
        shapes.append(f'<rect x="0" y="{y}" width="{WIDTH}" height="{height}" rx="4"/>')
        shapes.append(f'<rect class="box" x="0" y="{y}" width="{NAME}" height="{height}" rx="4"/>')
        shapes.append(text(12, y + LINE, name, "name"))
        shapes += [text(NAME + 14, y + LINE * (i + 1), line) for i, line in enumerate(lines)]
        shapes += [
            text(NAME + 30 + TEXT, y + LINE * (i + 1), line, "door")
            for i, line in enumerate(modules)
        ]
        y += height + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img">\n'
        "<title>The packages of strop; each imports only from those below it</title>\n"
        f"<style>{STYLE}</style>\n" + "\n".join(shapes) + "\n</svg>\n"
    )


def text(x: int, y: int, content: str, kind: str = "") -> str:
    """Return a line of text."""
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text{of_kind} x="{x}" y="{y}">{escape(content)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
