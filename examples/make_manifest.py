"""Write a manifest of edits over real photographs (those that scikit-image ships).

python examples/make_manifest.py demo
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import skimage
from PIL import Image

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
INSTRUCTIONS = (
    "make it night",
    "turn it into a pencil sketch",
    "make the sky pink",
    "add fog",
    "把它变成黑白照片",
)


def main(folder: Path) -> None:
    (folder / "photographs").mkdir(parents=True, exist_ok=True)
    rows = []
    for file in PHOTOGRAPHS:
        image = Image.open(Path(skimage.__file__).parent / "data" / file).convert("RGB")
        path = folder / "photographs" / f"{Path(file).stem}.jpg"
        image.save(path, quality=92)
        for k, instruction in enumerate(INSTRUCTIONS):
            name = f"photographs/{path.name}"
            rows.append({"id": f"{path.stem}-{k}", "image": name, "instruction": instruction})
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    print(f"{folder / 'manifest.parquet'}: {len(rows)} rows over {len(PHOTOGRAPHS)} photographs")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
