"""llama.cpp's GGUF files, read with the gguf package; ``gguf_writer`` writes them with it.

Its Llamas rotate neighbouring pairs of a head, as llama2.c does, so rows stay where they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..errors import CheckpointError, FileError, TokenizerError
from ..extras import require
from ..files import start_of
from ..special import BOS, EOS, Special
from ..tokenizer import Tokenizer, fitting
from ..weights import Names, Told, gather
from .found import Found, checked_defaults, source_of_file
from .header import Header
from .pieces import NORMAL, Pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MORE_ENDS", "NAMES", "SAMPLING", "open_gguf"]

NAMES = Names(
    outside={"tok_emb": "token_embd", "rms_final": "output_norm", "wcls": "output"},
    layer="blk.{}",
    inside={
        "rms_att": "attn_norm",
        "wq": "attn_q",
        "wk": "attn_k",
        "wv": "attn_v",
        "wo": "attn_output",
        "rms_ffn": "ffn_norm",
        "w1": "ffn_gate",
        "w2": "ffn_down",
        "w3": "ffn_up",
    },
)

MORE_ENDS = ("eot_token_id", "eom_token_id")  # llama.cpp's names of other ends than EOS
#: Its sampling parameters -> ours.
SAMPLING = {
    "temp": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}


# ---- reading ----------------------------------------------------------------------------------


def open_gguf(path: Path) -> Found:
    """Opens a Llama; its weights become float32, whatever type they have in the file.

    Raises:
        MissingPackage: the gguf package is not installed.
        CheckpointError: a damaged file, or a model that this engine cannot compute; it is named.
    """
    file = _File(path)
    config = file.config()
    special = file.special(config.vocab_size)
    return Found(
        path.name,
        "GGUF",
        config,
        lambda told: source_of_file(path, config, file.arrays(config, told)),
        lambda: fitting(file.tokenizer(special), config.vocab_size, rounded_up=True),
        defaults=file.defaults(),
        special=special,
    )


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = require("gguf", "gguf", f"{path} is a GGUF file")
        _check_version(path)
        try:
            reader = self._library.GGUFReader(path)
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}") from None
        except Exception as error:  # whatever a damaged file leads to
            raise CheckpointError(
                f"{path}: damaged or incomplete ({error}): download it again"
            ) from None
        self._fields = reader.fields
        self._tensors = {
            tensor.name: _Tensor(self.path, tensor, self._library) for tensor in reader.tensors
        }

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the header."""
        field = self._fields.get(key)
        if field is None:
            return default
        try:
            return field.contents()
        except Exception as error:  # text that is no UTF-8, a type that there is not
            raise CheckpointError(f"{self.path}: its {key} is damaged ({error})") from None

    def config(self) -> Config:
        """The shape; what the engine does not compute is an error that names it."""
        where, kind = self.path, self.get("general.architecture")
        if kind != "llama":
            raise CheckpointError(
                f"{where}: a GGUF of the architecture {kind!r}; this engine computes 'llama'"
            )
        header = Header(where, self.get, "llama.")
        if Header(where, self.get).real("split.count", 1) > 1:
            raise CheckpointError(
                f"{where}: one of {self.get('split.count')} parts of a model; join them with "
                "llama.cpp's llama-gguf-split --merge"
            )
        if header.real("expert_count", 0) > 0:
            raise CheckpointError(
                f"{where}: a mixture of {self.get('llama.expert_count')} experts, which this "
                "engine does not compute"
            )
        rule = self.get("llama.rope.scaling.type", "none")
        factor = header.real("rope.scaling.factor", header.real("rope.scale_linear", 1.0))
        # A linear rule may say that it changes nothing; of any other one the factor is not all.
        if factor != 1.0 or rule not in ("none", "linear"):
            raise CheckpointError(
                f"{where}: positions scaled by the rule {rule!r:.100} and the factor {factor:g}, "
                "which this engine does not compute"
            )
        dim, heads = header.whole("embedding_length"), header.whole("attention.head_count")
        embedding = self._tensors.get("token_embd.weight")
        if embedding is None:
            raise CheckpointError(
                f"{where}: holds no token_embd.weight, so no weights: it may be a vocabulary or "
                "an adapter; give the model's GGUF"
            )
        size = header.head_size(dim, heads)
        for name in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
            if (said := header.whole(name, size)) != size:
                raise CheckpointError(
                    f"{where}: llama.{name} is {said}, and this engine needs {size}"
                )
        return Config(
            dim=dim,
            hidden_dim=header.whole("feed_forward_length"),
            n_layers=header.whole("block_count"),
            n_heads=heads,
            n_kv_heads=header.whole("attention.head_count_kv", heads),
            vocab_size=embedding.shape[0],
            seq_len=header.whole("context_length"),
            tied="output.weight" not in self._tensors,
            norm_eps=header.real("attention.layer_norm_rms_epsilon", 1e-5),
            rope_theta=header.real("rope.freq_base", 10000.0),
        )

    def arrays(self, config: Config, told: Told) -> dict[str, NDArray[np.float32]]:
        """All tensors as float32, layers stacked."""
        return gather(config, NAMES, self._tensors, self.path, told=told)

    def special(self, vocab_size: int) -> Special:
        """What begins and ends a text, by llama.cpp's rules."""
        header = Header(self.path, self.get, "tokenizer.ggml.")
        bos = header.tokens("bos_token_id", vocab_size) or [BOS]
        ends = header.tokens("eos_token_id") or [EOS]
        for name in MORE_ENDS:
            ends += header.tokens(name)
        add_bos = bool(self.get("tokenizer.ggml.add_bos_token", True))
        return Special.of(bos[0], *ends, add_bos=add_bos)

    def defaults(self) -> dict[str, Any]:
        """The sampling parameters that it asks for, in our words."""
        said = {ours: self.get(f"general.sampling.{name}") for name, ours in SAMPLING.items()}
        # 0.3 and not 0.30000001192092896: what somebody wrote, before it was rounded to float32.
        found = {
            name: float(f"{value:.7g}") if isinstance(value, float) else value
            for name, value in said.items()
            if value is not None
        }
        return checked_defaults(self.path, found)

    def tokenizer(self, special: Special) -> Tokenizer:
        """The tokenizer inside."""
        kind = self.get("tokenizer.ggml.model")
        if kind != "llama":
            raise TokenizerError(
                f"{self.path}: its tokenizer is of the kind {kind!r}, and SentencePiece's 'llama' "
                "can be read from a GGUF; pass tokenizer="
            )
        texts = self.get("tokenizer.ggml.tokens", [])
        scores = self.get("tokenizer.ggml.scores") or [0.0] * len(texts)
        types = self.get("tokenizer.ggml.token_type") or [NORMAL] * len(texts)
        if not len(texts) == len(scores) == len(types):
            raise TokenizerError(
                f"{self.path}: {len(texts)} tokens with {len(scores)} scores and {len(types)} types"
            )
        try:
            return Pieces(
                texts,
                scores,
                types,
                dummy_prefix=bool(self.get("tokenizer.ggml.add_space_prefix", True)),
                squeeze_spaces=bool(self.get("tokenizer.ggml.remove_extra_whitespaces", False)),
            ).opened(self.path, special)
        except (TypeError, ValueError) as error:  # of the lists' content
            raise TokenizerError(f"{self.path}: its tokenizer is damaged ({error})") from None


def _check_version(path: Path) -> None:
    """Whether this is a file of a kind that the package reads; it would call others damaged."""
    start = start_of(path)
    version = int.from_bytes(start[4:8], "little")
    if len(start) < 8 or version in (0, 2, 3):  # the package itself says what is damaged
        return
    if version & 0xFFFF == 0:
        raise CheckpointError(
            f"{path}: a GGUF file for big-endian machines; take the ordinary one, or convert it "
            "with llama.cpp's gguf_convert_endian"
        )
    remedy = "convert the original weights again" if version < 2 else "pip install -U gguf, perhaps"
    raise CheckpointError(
        f"{path}: a GGUF file of version {version}; 2 and 3 can be read: {remedy}"
    )


class _Tensor:
    """One of a file's, in the words of ``weights.py``."""

    def __init__(self, file: Path, tensor: Any, library: Any) -> None:
        self._file, self._tensor, self._library = file, tensor, library
        self.shape = tuple(int(n) for n in reversed(tensor.shape))  # columns come first there

    def read(self) -> NDArray[np.float32]:
        """As float32, whatever type it has."""
        tensor, kind = self._tensor, self._tensor.tensor_type
        try:
            values: NDArray[np.float32] = self._library.quants.dequantize(tensor.data, kind)
            return values.reshape(self.shape)
        except NotImplementedError:
            raise CheckpointError(
                f"{self._file}: {tensor.name} is of the type {kind.name}, which the gguf package "
                "does not read; take a file of F32, F16, BF16, Q8_0 or Q4_0"
            ) from None
        except (ValueError, IndexError) as error:
            raise CheckpointError(
                f"{self._file}: {tensor.name} is damaged ({error}): download the file again"
            ) from None
