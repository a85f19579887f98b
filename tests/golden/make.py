"""Writes the golden files: which tokens a model must give for which seed.

    python tests/golden/make.py             of every model that is here
    python tests/golden/make.py story       of the built-in model: when story.bin changed

The tokens come from the sampler in tests/llama2c.py, not from ``Model.generate``; nothing is kept
unless both agree.  tests/test_golden.py reads the files.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import llama2c  # noqa: E402
import tinyzh  # noqa: E402

REAL_MODELS = HERE.parents[2] / "shared" / "models"
BUILT_IN = Path(tinyzh.__file__).parent / "data"
ENDS = (1, 2)
STEPS = 60

#: golden file -> checkpoint, tokenizer, prompts
MODELS: dict[str, tuple[Path, Path, list[str]]] = {
    "stories260K": (
        REAL_MODELS / "stories260K.bin",
        REAL_MODELS / "tok512.bin",
        ["", "Once upon a time", "Lily saw a big dog."],
    ),
    "stories260K_q80": (
        REAL_MODELS / "stories260K_q80.bin",
        REAL_MODELS / "tok512.bin",
        ["", "The little cat"],
    ),
    "poem_zh_750k": (
        REAL_MODELS / "poem_zh_750k.bin",
        REAL_MODELS / "poem_zh_tok2048.bin",
        ["主题：明月 体裁：五绝\n", "主题：春风 体裁：七绝\n"],
    ),
    "story": (
        BUILT_IN / "story.bin",
        BUILT_IN / "story.tokenizer.bin",
        ["", "从前", "小兔子说：“"],
    ),
}
#: temperature, top_p, seed
SETTINGS = [(0.0, 1.0, 1), (0.9, 0.9, 1), (0.9, 0.9, 2**64 - 1), (1.0, 1.0, 7), (1.5, 0.5, 42)]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make(name: str) -> None:
    checkpoint, tokenizer, prompts = MODELS[name]
    cases = []
    with tinyzh.Model(checkpoint, tokenizer=tokenizer) as model:
        for prompt in prompts:
            ids = model.tokenizer.encode(prompt)
            steps = min(STEPS, model.config.seq_len - len(ids))
            for temperature, top_p, seed in SETTINGS:
                tokens = llama2c.continue_ids(
                    model.logits,
                    ids,
                    temperature=temperature,
                    top_p=top_p,
                    seed=seed,
                    steps=steps,
                    ends=ENDS,
                )
                story = model.generate(
                    ids, temperature=temperature, top_p=top_p, seed=seed, max_new_tokens=steps
                )
                text = story.read()
                if story.token_ids != tokens:
                    sys.exit(f"{name}, {prompt!r}, seed {seed}: {story.token_ids} is not {tokens}")
                case = {"prompt": prompt, "prompt_ids": ids, "temperature": temperature}
                case |= {"top_p": top_p, "seed": seed, "steps": steps}
                cases.append(case | {"token_ids": tokens, "text": text})
    golden = {
        "numerics_version": tinyzh.numerics_version,
        "sha256": sha256(checkpoint),
        "cases": cases,
    }
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = json.dumps({k: v for k, v in golden.items() if k != "cases"})[:-1]
    target = HERE / f"{name}.json"
    target.write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{target.name}: {len(cases)} cases")


def main() -> None:
    for name in sys.argv[1:] or MODELS:
        if name not in MODELS:
            sys.exit(f"{name}: expected one of {', '.join(MODELS)}")
        if not MODELS[name][0].exists():
            print(f"{name}: {MODELS[name][0]} is not here, left as it is")
            continue
        make(name)


if __name__ == "__main__":
    main()
