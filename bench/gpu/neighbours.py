"""Others on the same GPU: transformers, and a CUDA build of llama.cpp."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import time
from pathlib import Path


def transformers_speeds(cache: Path, streams: tuple[int, ...], tokens: int) -> dict[str, float]:
    """Tokens a second in float16, by the number of streams; empty where torch sees no GPU."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return {}
    import torch
    from transformers import AutoModelForCausalLM

    from ..neighbours.hugging_face import folder

    if not torch.cuda.is_available():
        return {}
    path = str(folder(cache))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float16).eval().to("cuda")
    found = {}
    for count in streams:
        ids = torch.ones((count, 1), dtype=torch.long, device="cuda")
        for timed in (False, True):  # once to warm up
            start = time.perf_counter()
            with torch.inference_mode():
                model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    min_new_tokens=tokens,
                    max_new_tokens=tokens,
                    pad_token_id=0,
                )
            torch.cuda.synchronize()
            if timed:
                found[str(count)] = count * tokens / (time.perf_counter() - start)
    return found


def llama_cpp_speeds(program: str, cache: Path, prompt: int, tokens: int) -> dict[str, float]:
    """Tokens a second of ``llama-bench`` in float16: ``1`` stream, and ``prompt``."""
    from ..neighbours.llama_cpp_python import gguf_file

    command = [program, "-m", str(gguf_file("float16", cache)), "-ngl", "99", "-o", "json"]
    command += ["-p", str(prompt), "-n", str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return speeds_of(json.loads(done.stdout))


def speeds_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """What llama-bench's JSON says: a run has a prompt or new tokens."""
    return {"prompt" if run["n_prompt"] else "1": run["avg_ts"] for run in runs}
