"""Edit a folder of photographs in one style: one instruction, one seed, one command to go on.

python examples/locked_style.py photographs out sketch
"""

import csv
import subprocess
import sys
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main(folder: Path, output: Path, style: str) -> int:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    manifest = folder / "photographs.csv"
    with manifest.open("w", newline="") as rows:
        writer = csv.writer(rows)
        writer.writerow(["id", "image"])
        writer.writerows([file.stem, file.name] for file in files)
    command = ["rayedit", "batch", str(manifest), str(output), "--style", style]
    return subprocess.run([*command, "--determinism", "strict"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
