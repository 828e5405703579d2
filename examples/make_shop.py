"""Make the folder of a small shop of postcards, for docs/tutorial.md.

Sixty photographs and a table of them, five of the files spoilt; mended ones; ten new ones. They are
cut out of those that scikit-image ships.

python examples/make_shop.py shop
"""

import random
import sys
from pathlib import Path

import skimage
from openpyxl import Workbook
from PIL import Image

MOTIFS = {
    "咖啡": "coffee.png",
    "小猫": "chelsea.png",
    "火箭": "rocket.jpg",
    "摩托车": "motorcycle_left.png",
    "宇航员": "astronaut.png",
}
OLD, ALL = 60, 70  # photographs before the new ones came, and with them
HEAD = ("货号", "商品", "图片", "价格")  # number, article, picture, price


def name_of(number: int) -> str:
    """The file of a photograph: the astronauts are PNG, the others JPEG."""
    motif = list(MOTIFS)[number % len(MOTIFS)]
    return f"{motif} {number // len(MOTIFS) + 1:02d}.{'png' if motif == '宇航员' else 'jpg'}"


def save_photographs(folder: Path, numbers: range) -> None:
    """Cut them out, upright and lying ones of many sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [Image.open(Path(skimage.__file__).parent / "data" / f) for f in MOTIFS.values()]
    for number in numbers:
        original, cut = originals[number % len(MOTIFS)], random.Random(number)
        width, height = (round(side * cut.uniform(0.6, 1)) for side in original.size)
        left, top = cut.randint(0, original.width - width), cut.randint(0, original.height - height)
        photograph = original.crop((left, top, left + width, top + height)).convert("RGB")
        photograph.save(folder / name_of(number), quality=92)


def save_table(file: Path, count: int) -> None:
    """Write the table of the first photographs."""
    book = Workbook()
    book.active.append(HEAD)
    for number in range(count):
        article = name_of(number).partition(" ")[0]
        book.active.append((f"P{number + 1:03d}", f"{article}明信片", name_of(number), 12))
    book.save(file)


def spoil(folder: Path, mended: Path) -> None:
    """Keep five good files in `mended`, and spoil them as they are spoilt in a shop."""
    mended.mkdir(exist_ok=True)
    cut, empty, gone, turned, flipped = (folder / name_of(n) for n in (10, 21, 32, 43, 54))
    for file in (cut, empty, gone, turned, flipped):
        (mended / file.name).write_bytes(file.read_bytes())
    cut.write_bytes(cut.read_bytes()[:9000])  # the camera's battery
    empty.write_bytes(b"")  # a copy that never ended
    gone.unlink()
    Image.open(turned).convert("P").save(turned, "GIF")  # by a friend's program, under the old name
    flipped.write_bytes(flip(flipped.read_bytes()))  # an old USB stick


def flip(data: bytes) -> bytes:
    """Turn one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def main(shop: Path) -> None:
    save_photographs(shop / "photos", range(OLD))
    spoil(shop / "photos", shop / "mended")
    save_table(shop / "products.xlsx", OLD)
    save_photographs(shop / "new" / "photos", range(OLD, ALL))
    save_table(shop / "new" / "products.xlsx", ALL)
    print(f"{shop}: {OLD} photographs and their table, {ALL - OLD} new ones")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
