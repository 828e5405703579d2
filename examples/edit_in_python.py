"""Edit photographs in Python: no Ray, no server.

python examples/edit_in_python.py photo.jpg "make it night" edited.png
"""

import sys

import rayedit


def main(source: str, instruction: str, output: str) -> None:
    with rayedit.Editor("pocket") as editor:
        edited = editor.edit(source, instruction, seed=7)
    edited.save(output)
    print(f"{output}: {edited.width}x{edited.height} px, seed {edited.info['seed']}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:4])
    except rayedit.EngineError as error:
        sys.exit(f"{error.code}: {error.message}")
