"""Write docs/images/report.png, the upper part of a run's report in headless Chromium.

python scripts/report_picture.py runs/demo

Needs `pip install playwright`, a Chromium, and `pip install pillow` to write few colours.
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from strop.runs import report
from strop.runs.run import Run

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "report.png"
WIDTH, MOST_BYTES = 1080, 300_000


def main() -> int:
    """Write the picture; exit code 1 where it is too large to be kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", help="folder of an evaluated run")
    parser.add_argument("--height", type=int, default=1500, help="pixels of the page, from its top")
    options = parser.parse_args()
    page_file = report.write(Run.open(options.run)).resolve()
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": options.height})
        page.goto(page_file.as_uri())
        png = page.screenshot(timeout=300_000)
        chromium.close()
    PICTURE.parent.mkdir(exist_ok=True)
    few_colours = Image.open(io.BytesIO(png)).convert(
        "P", palette=Image.Palette.ADAPTIVE, colors=64
    )
    few_colours.save(PICTURE, optimize=True)
    size = PICTURE.stat().st_size
    print(f"{PICTURE}: {size:,} bytes")
    return int(size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
