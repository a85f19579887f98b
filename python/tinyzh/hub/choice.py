"""Which of a repository's files are the model: from their names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import FileMissing, InvalidArgument

__all__ = ["Picked", "choose"]

# Files that other programs call .bin, and files of tokens or of pieces.
_NO_CHECKPOINT = re.compile(
    r"pytorch_model|training_args|optimizer|scheduler|rng_state|random_states|adapter|openvino"
    r"|imatrix|learned_embeds|mm_projector|non_lora|^ggml|^consolidated|^mp_rank|^zero_pp"
    r"|(^|[._-])(lora|vocab(ulary)?|merges|(v_|value_|lm_)?head|train|val(id)?|test)\.bin$"
    r"|(^|[._-])tok(enizer)?\d*([._-].*)?\.bin$",
    re.IGNORECASE,
)
#: What lies beside the weights of OpenVINO (x.xml, x.bin) and of ncnn (x.param, x.bin).
_COMPANIONS = ("xml", "param")
#: What lies beside model.bin of CTranslate2.
_CTRANSLATE2 = re.compile(r"(shared_|source_|target_)?vocabulary\.(json|txt)")
_NAMED_TOKENIZER = re.compile(r"(tokenizer|tok\d+)\.(model|bin)")
_FOLDER_FILES = (
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.(safetensors|bin)")
# The kinds of GGUF, the first one taken first; a name that says none of them comes last.
_GGUF_KINDS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1")
_GGUF_KIND = re.compile(r"(?:^|[._-])(b?f16|f32|i?q\d\w*)(?=[.-])", re.IGNORECASE)
_NO_MODEL_IN_GGUF = re.compile(r"mmproj|imatrix|vocab", re.IGNORECASE)
_GGUF_PART = re.compile(r"-\d+-of-\d+\.gguf$")


@dataclass(frozen=True)
class Picked:
    """What to download of a repository, and what to open of it."""

    path: str  #: of the model in the repository; of a folder: "" or "folder"
    files: tuple[str, ...]  #: that, and what belongs to it
    format: str  #: ``llama2.c``, ``tz``, ``Hugging Face``, ``GGUF`` or ``PyTorch``

    @property
    def is_folder(self) -> bool:
        """Whether it is a Hugging Face folder, with either kind of weights."""
        return self.format in ("Hugging Face", "PyTorch")


def choose(files: Sequence[str], file: str | None = None) -> Picked:
    """Picks the model among a repository's files.

    The first of these that there is: a llama2.c checkpoint (``.bin``), a ``.tz`` file, a Hugging
    Face folder with safetensors, a ``.gguf`` file (F32, F16, BF16, Q8_0, Q4_0, Q4_1: the first of
    these), a Hugging Face folder with ``pytorch_model.bin``; with it the tokenizers beside it.
    Folders inside of the repository are looked into where nothing lies above them.

    Args:
        files: their paths in the repository.
        file: the one to take, or a folder to look into.

    Raises:
        FileMissing: ``file`` is not there, or no file is a model.
        InvalidArgument: several fit equally well, or ``file`` is not a model; names the choices.
    """
    if file is not None:
        return _named(files, file)
    depths = sorted({name.count("/") for name in files})
    for depth in depths:
        folders = sorted({_folder(name) for name in files if name.count("/") == depth})
        found = [c for folder in folders if (c := _in_folder(files, folder))]
        if len(found) == 1:
            return found[0]
        if found:
            raise _several(c.path for c in found)
    raise FileMissing(f"no model among its files: {_listed(files)}")


def _named(files: Sequence[str], file: str) -> Picked:
    if file not in files:
        folder = file.rstrip("/") + "/"
        inside = [name for name in files if name.startswith(folder)]
        if inside:
            inner = choose([name.removeprefix(folder) for name in inside])
            return Picked(
                (folder + inner.path).rstrip("/"),
                tuple(folder + name for name in inner.files),
                inner.format,
            )
        raise FileMissing(f"no file {file}; there are {_listed(files)}")
    folder, beside = _folder(file), _names_in(files, _folder(file))
    name = file.removeprefix(folder)
    for weights in _FOLDER_WEIGHTS:
        if name in (weights, f"{weights}.index.json") or name in _shards(beside, weights):
            return _hugging_face(beside, folder, weights)
    if name == "config.json":
        for weights in _FOLDER_WEIGHTS:
            if _weights(beside, weights):
                return _hugging_face(beside, folder, weights)
    format = {"bin": "llama2.c", "gguf": "GGUF", "tz": "tz"}.get(name.rpartition(".")[2])
    if format is None:
        raise InvalidArgument(f"{file} is not a model: name a .bin, .tz, .gguf or .safetensors")
    return _file(beside, folder, name, format)


def _in_folder(files: Sequence[str], folder: str) -> Picked | None:
    """The model that lies in a folder (``""``, ``"a/"``), not deeper."""
    names = _names_in(files, folder)
    checkpoints = [n for n in names if _is_checkpoint(n, names)]
    for format, found in (
        ("llama2.c", checkpoints),
        ("tz", [n for n in names if n.endswith(".tz")]),
    ):
        if len(found) > 1:
            raise _several(folder + n for n in found)
        if found:
            return _file(names, folder, found[0], format)
    safetensors, pickle = _FOLDER_WEIGHTS
    if "config.json" in names and _weights(names, safetensors):
        return _hugging_face(names, folder, safetensors)
    if gguf := _gguf(names, folder):
        return _file(names, folder, gguf, "GGUF")
    if "config.json" in names and _weights(names, pickle):
        return _hugging_face(names, folder, pickle)
    return None


def _is_checkpoint(name: str, beside: Sequence[str]) -> bool:
    """Whether a file is one of llama2.c's, by its name and those of the files beside it."""
    if not name.endswith(".bin") or _NO_CHECKPOINT.search(name):
        return False
    stem = name.removesuffix(".bin")
    if any(f"{stem}.{other}" in beside for other in _COMPANIONS):
        return False
    return name != "model.bin" or not any(map(_CTRANSLATE2.fullmatch, beside))


def _gguf(names: Sequence[str], folder: str) -> str | None:
    """The most precise of several files of one model."""
    files = [n for n in names if n.endswith(".gguf") and not _NO_MODEL_IN_GGUF.search(n)]
    whole = [name for name in files if not _GGUF_PART.search(name)]
    if files and not whole:
        raise InvalidArgument(
            f"only parts of a GGUF file, {_listed(folder + n for n in files)}: join them with "
            "llama.cpp's llama-gguf-split --merge and give that file"
        )
    best = [name for name in whole if _rank(name) == min(map(_rank, whole))]
    if len(best) > 1 or len({_GGUF_KIND.sub("", name) for name in whole}) > 1:
        raise _several(folder + name for name in whole)
    return best[0] if best else None


def _rank(name: str) -> int:
    kinds = _GGUF_KIND.findall(name.lower())
    known = kinds and kinds[-1] in _GGUF_KINDS
    return _GGUF_KINDS.index(kinds[-1]) if known else len(_GGUF_KINDS)


def _file(names: Iterable[str], folder: str, name: str, format: str) -> Picked:
    """A single file with the tokenizers that tokenizer.py would look for beside it."""
    stem = name.removesuffix(".bin")
    own = (f"{stem}.tokenizer.model", f"{stem}.tokenizer.bin", f"{stem}.model")
    beside = () if format == "GGUF" else (n for n in names if n in own or _is_tokenizer(n))
    files = (name, *(n for n in beside if n != name))
    return Picked(folder + name, tuple(folder + n for n in files), format)


def _hugging_face(names: Sequence[str], folder: str, weights: str) -> Picked:
    if "config.json" not in names:
        raise FileMissing(f"no {folder}config.json, without which {weights} cannot be read")
    held = _weights(names, weights)
    if not held:
        raise FileMissing(f"{folder}{weights}.index.json without the files that it lists")
    others = (n for n in names if n in _FOLDER_FILES or _is_tokenizer(n))
    format = "PyTorch" if weights.endswith(".bin") else "Hugging Face"
    return Picked(folder.rstrip("/"), tuple(folder + n for n in (*held, *others)), format)


def _weights(names: Sequence[str], weights: str) -> tuple[str, ...]:
    """The files that together are these weights; none if they are not all there."""
    if weights in names:
        return (weights,)
    shards = tuple(_shards(names, weights))
    if f"{weights}.index.json" not in names or not shards:
        return ()
    wanted = int(_SHARD.findall(shards[0])[0][1])
    return (f"{weights}.index.json", *shards) if len(shards) == wanted else ()


def _shards(names: Iterable[str], weights: str) -> Iterator[str]:
    stem, _, suffix = weights.rpartition(".")
    for name in names:
        if name.startswith(stem) and name.endswith(suffix) and _SHARD.fullmatch(name[len(stem) :]):
            yield name


def _is_tokenizer(name: str) -> bool:
    return _NAMED_TOKENIZER.fullmatch(name) is not None


def _folder(path: str) -> str:
    """``"a/b"`` -> ``"a/"``; ``"b"`` -> ``""``."""
    return path[: path.rfind("/") + 1]


def _names_in(files: Iterable[str], folder: str) -> list[str]:
    return sorted(f.removeprefix(folder) for f in files if _folder(f) == folder)


def _several(paths: Iterable[str]) -> InvalidArgument:
    return InvalidArgument(
        f"several models: {_listed(paths, 20)}; say which, as in NAME:FILE or file="
    )


def _listed(paths: Iterable[str], most: int = 12) -> str:
    names = [path or "." for path in paths]
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none at all") + more
