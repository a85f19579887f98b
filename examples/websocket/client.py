"""Talks to server.py: several characters at once, and one of them again.

python client.py ws://127.0.0.1:8765
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict

from websockets.asyncio.client import connect

CHARACTERS = ["球球", "点点", "花花", "毛毛"]


async def main(address: str) -> None:
    lines: dict[str, str] = defaultdict(str)
    async with connect(address) as socket:
        for turn in range(2):
            for distance, name in enumerate(CHARACTERS):
                message = {"character": name, "say": "有一天，", "near": distance, "seed": 7 + turn}
                await socket.send(json.dumps(message, ensure_ascii=False))
            left = len(CHARACTERS)
            while left:
                answer = json.loads(await socket.recv())
                lines[answer["character"]] += answer.get("piece", "")
                left -= "end" in answer
    for name in CHARACTERS:
        print(f"{name}：{lines[name]}")


asyncio.run(main(sys.argv[1]))
