"""How long the slowest broken description takes: `python tests/benchmarks/info_xml.py`.

Exits with 1 when one of them takes more than 100 ms at best of three.
"""

import sys
import time
from pathlib import Path

from tables import Limit, show

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.host.test_info_xml_corpus import CORPUS, read


def seconds(data: bytes) -> float:
    """Of the best of three: this is about the file, not about what else the machine does."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        read(data)
        best = min(best, time.perf_counter() - began)
    return best


def main() -> int:
    """Show the three slowest; returns the exit code."""
    slowest = sorted(((seconds(data), name) for name, data in CORPUS.items()), reverse=True)[:3]
    return show(
        f"The slowest of {len(CORPUS)} broken descriptions",
        [Limit(name, "≤ 100 ms", f"{took * 1000:.1f} ms", took <= 0.1) for took, name in slowest],
    )


if __name__ == "__main__":
    sys.exit(main())
