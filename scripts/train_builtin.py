"""Trains the built-in story model: tokenizer, weights, llama2.c files, in one run.

    python scripts/train_builtin.py --out build/builtin --minutes 85

Needs PyTorch and SentencePiece. The length of the schedule is a budget of training time.
Results in --out: tokenizer.model, tokenizer.bin, story.bin (llama2.c v2, int8), story.npz
(the same weights as fp16), log.jsonl and checkpoint.pt, from which --resume goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import struct
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))
from tinyzh.train.stories import FOLDER, stories  # noqa: E402

DIM, HIDDEN, N_LAYERS, N_HEADS, N_KV_HEADS, VOCAB, SEQ_LEN = 256, 516, 5, 8, 4, 3000, 512
HEAD, BOS, TOKENS_PER_STEP = DIM // N_HEADS, 1, 4096
GROUP = 64  # weights that share one scale in the int8 file
OPENING = re.compile(
    "有[一两个]|在一|(?!从前|很久)[^，。“！？]{1,8}(住着|[里上边下]有|有[一个]|来了一)"
)


def load_texts(args: argparse.Namespace) -> list[str]:
    """The drawn stories and the extra ones without ASCII (each several times), shuffled."""
    texts = list(stories(FOLDER, args.stories, args.seed))
    # 从前 is what most people ask for: three of four openings that can follow it shall do so.
    texts = [f"从前，{t}" if i % 4 and OPENING.match(t) else t for i, t in enumerate(texts)]
    for path in args.extra:
        extra = [text.strip() for text in json.loads(path.read_text(encoding="utf-8"))]
        texts += [t for t in extra if not any("!" <= c <= "~" for c in t)] * args.repeat
    random.Random(args.seed).shuffle(texts)
    return texts


def train_tokenizer(texts: list[str], out: Path) -> None:
    """SentencePiece BPE; the rarest characters are left to byte tokens, to leave room to merge."""
    ordered = sorted(Counter("".join(texts)).values(), reverse=True)
    kept = min(len(ordered), (VOCAB - 259) * 7 // 10)  # 259: <unk> <s> </s> and the bytes
    coverage = sum(ordered[:kept]) / sum(ordered)
    SentencePieceTrainer.train(
        sentence_iterator=(text.replace("\n", "") for text in texts),
        model_prefix=str(out / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCAB,
        character_coverage=coverage,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=1,
    )
    # And in llama2.c's format: each token's score, length and bytes.
    sp = SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    pieces = [sp.id_to_piece(i).replace("▁", " ") for i in range(sp.vocab_size())]
    pieces[1], pieces[2] = "\n<s>\n", "\n</s>\n"
    raw = [piece.encode() for piece in pieces]
    with open(out / "tokenizer.bin", "wb") as file:
        file.write(struct.pack("<I", max(map(len, raw))))
        for i, piece in enumerate(raw):
            file.write(struct.pack("<fi", sp.get_score(i), len(piece)) + piece)


class Batches:
    """Windows of packed stories; each begins with the first story not finished before it."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens  # (N,) uint16
        self.starts = np.flatnonzero(tokens == BOS)
        self.at = 0  # index into starts

    def next(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, both (B, T): T is 512 in every fourth step, else 256."""
        length = SEQ_LEN if step % 4 == 3 else SEQ_LEN // 2
        rows = []
        while len(rows) < TOKENS_PER_STEP // length:
            start = self.starts[self.at]
            end = start + length + 1
            if end >= len(self.tokens):  # begin again
                self.at = 0
                continue
            rows.append(self.tokens[start:end])
            self.at = max(self.at + 1, int(np.searchsorted(self.starts, end, side="right")) - 1)
        batch = torch.from_numpy(np.stack(rows).astype(np.int64))
        return batch[:, :-1], batch[:, 1:]


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs of x (B, heads, T, HEAD); cos and sin are (T, HEAD / 2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        kv_dim, linear = N_KV_HEADS * HEAD, partial(nn.Linear, bias=False)
        self.rms_att, self.rms_ffn = nn.RMSNorm(DIM, 1e-5), nn.RMSNorm(DIM, 1e-5)
        self.wq, self.wk, self.wv = linear(DIM, DIM), linear(DIM, kv_dim), linear(DIM, kv_dim)
        self.wo = linear(DIM, DIM)
        self.w1, self.w2, self.w3 = linear(DIM, HIDDEN), linear(HIDDEN, DIM), linear(DIM, HIDDEN)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, _ = x.shape
        h = self.rms_att(x)
        q = rope(self.wq(h).view(B, T, N_HEADS, HEAD).transpose(1, 2), cos, sin)
        k = rope(self.wk(h).view(B, T, N_KV_HEADS, HEAD).transpose(1, 2), cos, sin)
        v = self.wv(h).view(B, T, N_KV_HEADS, HEAD).transpose(1, 2)
        k, v = (y.repeat_interleave(N_HEADS // N_KV_HEADS, dim=1) for y in (k, v))
        att = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, HEAD)
        x = x + self.wo(att.transpose(1, 2).reshape(B, T, DIM))
        h = self.rms_ffn(x)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(VOCAB, DIM)
        self.layers = nn.ModuleList(Block() for _ in range(N_LAYERS))
        self.rms_final = nn.RMSNorm(DIM, 1e-5)
        for name, p in self.named_parameters():
            last = name.endswith(("wo.weight", "w2.weight"))
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * N_LAYERS) if last else 0.02)
        angle = torch.outer(torch.arange(SEQ_LEN), 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD))
        self.register_buffer("cos", angle.cos(), persistent=False)  # (SEQ_LEN, HEAD / 2)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, VOCAB) of tokens (B, T)."""
        T = tokens.shape[1]
        x = self.tok_emb(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:T], self.sin[:T])
        return F.linear(self.rms_final(x), self.tok_emb.weight)


def quantize(w: np.ndarray) -> bytes:
    """Q8_0: int8 values, then one fp32 scale for each group of the flattened matrix."""
    groups = w.astype(np.float32).reshape(-1, GROUP)
    scale = np.abs(groups).max(axis=1) / np.float32(127)
    values = np.rint(groups / np.where(scale > 0, scale, 1)[:, None])
    return values.astype(np.int8).tobytes() + scale.astype("<f4").tobytes()


def export(model: Llama, out: Path) -> None:
    """Write story.bin (llama2.c v2) and story.npz (fp16)."""
    w = {name.removesuffix(".weight"): p.detach().numpy() for name, p in model.named_parameters()}
    att, ffn = (
        [w[f"layers.{i}.{name}"] for i in range(N_LAYERS)] for name in ("rms_att", "rms_ffn")
    )
    parts = [n.astype("<f4").tobytes() for n in (*att, *ffn, w["rms_final"])]
    parts.append(quantize(w["tok_emb"]))
    for name in ("wq", "wk", "wv", "wo", "w1", "w2", "w3"):
        parts += [quantize(w[f"layers.{i}.{name}"]) for i in range(N_LAYERS)]
    shape = (DIM, HIDDEN, N_LAYERS, N_HEADS, N_KV_HEADS, VOCAB, SEQ_LEN)
    header = struct.pack("<Ii7iBi", 0x616B3432, 2, *shape, 1, GROUP).ljust(256, b"\0")
    replace(out / "story.bin", header + b"".join(parts))
    np.savez(out / "story.npz", **{name: value.astype(np.float16) for name, value in w.items()})


def replace(path: Path, data: bytes) -> None:
    """Write a file so that no reader ever sees half of it."""
    path.with_suffix(".part").write_bytes(data)
    os.replace(path.with_suffix(".part"), path)


@torch.no_grad()
def bits_per_character(model: Llama, sp: SentencePieceProcessor, texts: list[str]) -> float:
    """Bits for the texts alone after BOS; longer ones in windows that overlap by half."""
    nats = 0.0
    for text in texts:
        ids = torch.tensor([BOS, *sp.encode(text)])
        done = 1
        while done < len(ids):
            start = max(0, done - SEQ_LEN // 2) if done > 1 else 0
            window = ids[start : start + SEQ_LEN + 1]
            losses = F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="none")
            nats += losses[done - start - 1 :].sum().item()
            done = start + len(window)
    return nats / math.log(2) / max(1, sum(map(len, texts)))


@torch.no_grad()
def sample(model: Llama, sp: SentencePieceProcessor, prompt: str, seed: int) -> str:
    """A story at temperature 0.8, up to the next BOS or the end of the context."""
    rng = torch.Generator().manual_seed(seed)
    ids = [BOS, *sp.encode(prompt)]
    while len(ids) < SEQ_LEN and (len(ids) == 1 or ids[-1] != BOS):
        logits = model(torch.tensor([ids]))[0, -1]
        ids.append(int(torch.multinomial(torch.softmax(logits / 0.8, -1), 1, generator=rng)))
    return str(sp.decode(ids[1:]))


def prepare(args: argparse.Namespace) -> np.ndarray:
    """The tokenizer and the token stream, made once for each --out folder."""
    cache = args.out / "tokens.npy"
    if not cache.exists():
        texts = load_texts(args)
        if not (args.out / "tokenizer.model").exists():
            train_tokenizer(texts[:40000], args.out)
        sp = SentencePieceProcessor(model_file=str(args.out / "tokenizer.model"))
        stream = [i for ids in sp.encode(texts, num_threads=2) for i in (BOS, *ids)]
        np.save(cache, np.array(stream, dtype=np.uint16))
    return np.load(cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for all results")
    parser.add_argument("--minutes", type=float, default=85, help="budget of training time")
    parser.add_argument("--stories", type=int, default=150_000, help="stories to draw")
    parser.add_argument("--extra", type=Path, action="append", default=[], help="JSON list")
    parser.add_argument("--repeat", type=int, default=4, help="times each extra story is used")
    parser.add_argument("--valid", type=Path, help="JSON list of held-out stories")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--every", type=float, default=5, help="minutes between checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile (needs g++)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)

    batches = Batches(prepare(args))
    sp = SentencePieceProcessor(model_file=str(args.out / "tokenizer.model"))
    valid = json.loads(args.valid.read_text(encoding="utf-8")) if args.valid else []
    model = Llama()
    norms, matrices = ([p for p in model.parameters() if p.dim() == d] for d in (1, 2))
    groups = [{"params": matrices}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.1)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)

    step, trained, budget = 0, 0.0, args.minutes * 60  # trained: seconds spent in steps
    if args.resume:
        saved = torch.load(args.out / "checkpoint.pt")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, trained, batches.at = saved["step"], saved["trained"], saved["at"]

    def loss_of(tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())

    step_loss = torch.compile(loss_of, dynamic=False) if args.compile else loss_of
    next_save, recent = trained + args.every * 60, []
    while trained < budget:
        began = time.monotonic()
        decay = 0.02 + 0.98 * (1 + math.cos(math.pi * trained / budget)) / 2
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 100) * decay
        optimizer.zero_grad()
        loss = step_loss(*batches.next(step))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        recent.append(loss.item())
        trained += min(time.monotonic() - began, 2.0)  # no budget for pauses and busy neighbours
        if step % 50 == 0:
            print(f"step {step} loss {np.mean(recent[-50:]):.4f} {trained:.0f}s", flush=True)
        if trained >= next_save or trained >= budget:
            next_save = trained + args.every * 60
            saved = {"step": step, "trained": trained, "at": batches.at}
            saved |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(saved, args.out / "checkpoint.part")
            os.replace(args.out / "checkpoint.part", args.out / "checkpoint.pt")
            export(model, args.out)
            entry = {"step": step, "trained_s": round(trained), "tokens": step * TOKENS_PER_STEP}
            entry["loss"] = round(float(np.mean(recent[-200:])), 4)
            entry["bits_per_character"] = round(bits_per_character(model, sp, valid), 4)
            entry["sample"] = sample(model, sp, "从前", args.seed)
            line = json.dumps(entry, ensure_ascii=False)
            print(line, flush=True)
            with open(args.out / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(line + "\n")


if __name__ == "__main__":
    main()
