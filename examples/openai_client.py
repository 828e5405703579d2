"""Edit a photograph over HTTP with the official OpenAI SDK; start `rayedit serve` first.

python examples/openai_client.py photo.jpg "make it night" edited.png
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI


def main(source: str, instruction: str, output: str) -> None:
    url = os.environ.get("RAYEDIT_URL", "http://127.0.0.1:8000/v1")
    client = OpenAI(base_url=url, api_key=os.environ.get("RAYEDIT_API_KEY", "none"))
    with open(source, "rb") as image:
        edited = client.images.edit(image=image, prompt=instruction, extra_body={"seed": 7})
    Path(output).write_bytes(base64.b64decode(edited.data[0].b64_json))


if __name__ == "__main__":
    main(*sys.argv[1:4])
