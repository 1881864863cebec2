"""How much longer `import tutelage` takes than `import torch`, as a ratio of medians over alternating fresh processes.

    python benchmarks/import_time.py [--times 11]

Measured twice: importing the front door alone, and the parts a training loop of one's own uses.
"""

import argparse
import statistics
import subprocess
import sys
import time

CASES = {
    "import torch": "import torch",
    "import torch, tutelage": "import torch, tutelage",
    "import tutelage; Distiller, losses": "import tutelage; tutelage.Distiller; tutelage.losses.kl",
}


def seconds(code: str) -> float:
    """Seconds of a fresh process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=11)
    given = parser.parse_args()
    seconds("import torch")
    found: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(given.times):
        for case, code in CASES.items():
            found[case].append(seconds(code))
    torch = statistics.median(found["import torch"])
    for case, values in found.items():
        print(f"{case:36} {statistics.median(values):.2f} s  ratio {statistics.median(values) / torch:.2f}")


if __name__ == "__main__":
    main()
