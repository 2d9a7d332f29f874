"""Stream the answer about a picture: python picture.py PICTURE [QUESTION]"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

picture = Path(sys.argv[1])
question = sys.argv[2] if len(sys.argv) > 2 else "What is this?"
client = OpenAI(
    base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key=os.environ.get("API_KEY", "unused")
)
stream = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "text", "text": question},
                {
                    "type": "image_url",
                    "image_url": {
                        "url": f"data:application/octet-stream;base64,{base64.b64encode(picture.read_bytes()).decode()}"
                    },
                },
            ],
        }
    ],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
