"""Ask about any media, blended: python media.py QUESTION FILE[=WEIGHT] ...

python media.py "What is this?" beach.jpg dog.wav
python media.py "What is left?" zoo.jpg lion.jpg=-0.5
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

question, *media = sys.argv[1:]
client = OpenAI(
    base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key=os.environ.get("API_KEY", "unused")
)


def part(argument: str) -> dict[str, object]:
    """Return a content part of a file; the server finds out from the bytes what it is."""
    name, _, weight = argument.partition("=")
    content = base64.b64encode(Path(name).read_bytes()).decode()
    file = {"filename": Path(name).name, "file_data": f"data:application/octet-stream;base64,{content}"}
    return {"type": "file", "file": file, "weight": float(weight or 1)}


reply = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": [{"type": "text", "text": question}, *map(part, media)]}],
    extra_body={"bind": {"trace": True}},
)
print(reply.choices[0].message.content)
for medium in reply.bind["media"]:
    print(
        f"  {medium['modality']}, weight {medium['weight']:g}, sampled {medium['sampled']}, sure {medium['confidence']}"
    )
