"""rayedit in Python: edit photographs by instruction, without a server.

    import rayedit

    night = rayedit.edit("photo.jpg", "make it night", seed=7)  # a PIL.Image
    night.save("night.png")

`Editor` keeps a model of your choice loaded and edits many at once. Importing rayedit loads no
torch.
"""

from __future__ import annotations

from engine import __version__
from engine.edit import EditFailure
from engine.errors import EngineError
from rayedit.editor import Editor, ImageLike, edit

__all__ = ["EditFailure", "Editor", "EngineError", "ImageLike", "__version__", "edit"]
