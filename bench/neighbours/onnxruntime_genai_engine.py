"""onnxruntime-genai, from a folder that its own builder makes (which needs onnx-ir and torch)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from .hugging_face import folder

PACKAGE = "onnxruntime-genai"
DTYPES = ("float32", "int8", "int4")
MOST_STREAMS = 32  # more raise an exception


def built(dtype: str, cache: Path) -> Path:
    target = cache / f"ort-{dtype}"
    if not (target / "genai_config.json").exists():
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-e", "cpu"]
        command += ["-p", dtype.replace("float", "fp"), "-i", str(folder(cache)), "-o", str(target)]
        done = subprocess.run([*command, "-c", str(cache)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"its builder failed: {done.stderr.strip()[-200:]}")
    return target


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        import onnxruntime_genai

        self._og = onnxruntime_genai
        path = str(built(dtype, cache))
        session = {"session_options": {"intra_op_num_threads": threads}}
        overlay = json.dumps({"model": {"decoder": session}})
        config = self._og.Config(path)
        config.overlay(overlay)
        self._model = self._og.Model(config)
        self.start = (
            f"import onnxruntime_genai as og; config = og.Config({path!r}); "
            f"config.overlay({overlay!r}); model = og.Model(config); "
            "params = og.GeneratorParams(model); params.set_search_options(max_length=2); "
            "generator = og.Generator(model, params); generator.append_tokens([1]); "
            "generator.generate_next_token()"
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> float:
        if len(prompts) > MOST_STREAMS:
            raise NotImplementedError
        end = len(prompts[0]) + tokens
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(
            do_sample=False, batch_size=len(prompts), min_length=end, max_length=end
        )
        generator = self._og.Generator(self._model, params)
        start = time.perf_counter()
        generator.append_tokens(np.array(prompts, np.int32))
        for _ in range(tokens):
            generator.generate_next_token()
        seconds = time.perf_counter() - start
        assert all(len(generator.get_sequence(i)) == end for i in range(len(prompts)))
        return seconds
