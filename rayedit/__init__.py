"""rayedit in Python: edit photographs by instruction, without a server.

    import rayedit

    night = rayedit.edit("photo.jpg", "make it night", seed=7)  # a PIL.Image
    night.save("night.png")

`Editor` keeps a model of your choice loaded and edits many at once. Importing rayedit loads no
torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

# A script's folder may hold a module of its own that is called `engine`: ours must be found.
_HOME = str(Path(__file__).parent.parent)
sys.path.insert(0, _HOME)
try:
    from engine import __version__
    from engine.edit import EditFailure
    from engine.errors import EngineError
    from rayedit.editor import Editor, ImageLike, edit
except ModuleNotFoundError as error:
    taken = getattr(sys.modules.get("engine"), "__file__", None)
    if taken is None or str(taken).startswith(_HOME):
        raise
    raise ImportError(
        f"a module called engine is loaded already, from {taken}: import rayedit before it"
    ) from error
finally:
    sys.path.remove(_HOME)

__all__ = ["EditFailure", "Editor", "EngineError", "ImageLike", "__version__", "edit"]
