"""Edit with rayedit in DataFlow's image-editing pipeline: the serving is all that changes.

    PromptedImageEditGenerator(image_edit_serving=RayeditServing("cache_local/image_edit_local"))

python examples/dataflow_serving.py photo.jpg "make it night" edited
"""

import sys
from pathlib import Path
from typing import Any

import rayedit

Prompt = dict[str, Any] | tuple[Any, str]  # of the operator: with the row's `idx`, or without


class RayeditServing:
    """Answers what `PromptedImageEditGenerator` of OpenDCAI/DataFlow-MM asks its serving.

    A row has a folder of its own, `sample_<idx>`, so that equal instructions do not overwrite each
    other's pictures; one that fails has none, and costs the others nothing.
    """

    def __init__(
        self,
        save_path: str,
        editor: rayedit.Editor | None = None,
        batch_size: int = 32,
        **options: Any,
    ) -> None:
        """Save below `save_path`; `options`: of every edit, such as `num_inference_steps`."""
        self._save_path = Path(save_path)
        self._editor = editor or rayedit.Editor("flux-kontext")
        self._batch_size = batch_size
        self._options = options

    def generate_from_input(
        self, user_inputs: list[Prompt]
    ) -> dict[str, list[str]] | list[list[str]]:
        """Edit each row; returns sample_<idx> -> its pictures, of rows without an `idx` a list."""
        samples = [_sample(number, given) for number, given in enumerate(user_inputs)]
        edited: dict[str, list[str]] = {}
        for start in range(0, len(samples), self._batch_size):
            names, images, texts = zip(*samples[start : start + self._batch_size], strict=True)
            made = self._editor.edit_many(
                [image[0] for image in images],
                list(texts),
                references=[image[1:] for image in images],
                **self._options,
            )
            edited |= {name: self._saved(name, one) for name, one in zip(names, made, strict=True)}
        has_idx = all(isinstance(given, dict) for given in user_inputs)
        return edited if has_idx else list(edited.values())

    def cleanup(self) -> None:
        """Let the model go."""
        self._editor.close()

    def _saved(self, sample: str, made: Any) -> list[str]:
        if isinstance(made, rayedit.EditFailure):
            print(f"{sample}: {made.code}: {made.message}", file=sys.stderr)
            return []
        folder = self._save_path / sample
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{sample}_0.png"
        made.save(path)
        return [str(path)]


def _sample(number: int, given: Prompt) -> tuple[str, list[Any], str]:
    """Return a row's name, its images and its instruction."""
    if isinstance(given, dict):
        number, image, text = given["idx"], given["image_path"], given["prompt"]
    else:
        image, text = given
    return f"sample_{number}", image if isinstance(image, list) else [image], text


def main(photo: str, instruction: str, save_path: str) -> None:
    serving = RayeditServing(save_path, rayedit.Editor("pocket"))
    rows: list[Prompt] = [{"idx": 0, "image_path": photo, "prompt": instruction}]
    print(serving.generate_from_input(rows))
    serving.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:4])
