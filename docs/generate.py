"""Writes docs/options.md and docs/metrics.md from the schema and the metric catalogue.

python docs/generate.py           write them
python docs/generate.py --check   exit 1 if one of them would change
"""

import argparse
import sys
from pathlib import Path

from async_r1.reference_docs import metrics_markdown, options_markdown

DOCS = Path(__file__).resolve().parent
PAGES = {"options.md": options_markdown, "metrics.md": metrics_markdown}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    outdated = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not path.exists() or path.read_text() != text:
            outdated.append(name)
            if not check:
                path.write_text(text)
    for name in outdated:
        print(f"docs/{name} {'is out of date: run make docs' if check else 'written'}")
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
