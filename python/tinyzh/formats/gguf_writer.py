"""Writing GGUF files with the gguf package; ``gguf`` is the way back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..config import Config
from ..extras import require
from ..special import LLAMA2C, Special
from ..weights import Told, as_float16, each, nothing
from .gguf import MORE_ENDS, NAMES, SAMPLING
from .pieces import UNKNOWN, Pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["write_gguf"]


def write_gguf(
    path: Path,
    config: Config,
    weights: Mapping[str, NDArray[np.float32]],
    pieces: Pieces | None,
    dtype: str = "float32",
    told: Told = nothing,
    *,
    special: Special = LLAMA2C,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """Writes a file that llama.cpp opens; returns what it had no place for, in words.

    Args:
        path: replaced when the whole is written.
        weights: by the names of ``Model.weights``.
        pieces: the tokenizer; None: the file gets none, and llama.cpp takes token ids only.
        dtype: of matrices: float32 (F32), float16 (F16) or int8 (Q8_0; a matrix whose rows are no
            multiple of 32 stays F16).
        told: told the weights that have been written, and how many there are.
        special: what begins and ends a text.
        defaults: sampling parameters that the model asks for.

    Raises:
        MissingPackage: the gguf package is not installed.
        InvalidArgument: a weight that the type cannot hold.
        FileError: it cannot be written.
    """
    import numpy as np

    library = require("gguf", "gguf", "writing GGUF")
    types = library.GGMLQuantizationType
    wanted = {"float32": types.F32, "float16": types.F16, "int8": types.Q8_0}[dtype]

    def kind_of(shape: tuple[int, ...]) -> Any:
        """Vectors stay F32; a row is a whole number of groups."""
        if len(shape) == 1 or wanted == types.F32:
            return types.F32
        return wanted if shape[-1] % library.GGML_QUANT_SIZES[wanted][0] == 0 else types.F16

    with replacing(path) as part:
        writer = library.GGUFWriter(part, "llama")
        try:
            _write_header(writer, library, config, wanted)
            notes = _write_tokenizer(writer, pieces, special)
            notes += _write_defaults(writer, defaults)
            for name, shape in each(config):
                group, size = library.GGML_QUANT_SIZES[kind_of(shape)]
                count = math.prod(shape) // group * size
                float32, kind = np.dtype(np.float32), kind_of(shape)
                writer.add_tensor_info(NAMES.of(name), shape, float32, count, raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            done, total = 0, sum(math.prod(shape) for _, shape in each(config))
            for name, shape in each(config):
                told(done, total)
                array, kind = weights[name], kind_of(shape)
                if kind == types.F16:
                    writer.write_tensor_data(as_float16(name, array))
                else:
                    writer.write_tensor_data(library.quants.quantize(array, kind))
                done += array.size
        finally:
            writer.close()
    told(total, total)
    return notes


def _write_header(writer: Any, library: Any, config: Config, kind: Any) -> None:
    types = library.LlamaFileType
    writer.add_file_type(
        {"F32": types.ALL_F32, "F16": types.MOSTLY_F16, "Q8_0": types.MOSTLY_Q8_0}[kind.name]
    )
    writer.add_context_length(config.seq_len)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.hidden_dim)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: Any, pieces: Pieces | None, special: Special) -> list[str]:
    """Writes pieces and special tokens; returns what there was no place for."""
    writer.add_bos_token_id(special.bos)
    ends = [i for i in special.ends if i != special.bos] or [special.bos]
    for name, i in zip(("eos_token_id", *MORE_ENDS), ends, strict=False):
        writer.add_uint32(f"tokenizer.ggml.{name}", i)
    writer.add_add_bos_token(special.add_bos)
    writer.add_add_eos_token(False)
    notes = []
    if left := ends[1 + len(MORE_ENDS) :]:
        notes.append(
            f"GGUF has places for three tokens that end a text: {left} no longer do; pass "
            f"stop_tokens={left}"
        )
    if pieces is None:
        writer.add_tokenizer_model("none")
        return notes
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(pieces.texts))
    writer.add_token_scores(list(pieces.scores))
    writer.add_token_types(list(pieces.types))
    if UNKNOWN in pieces.types:
        writer.add_unk_token_id(list(pieces.types).index(UNKNOWN))
    writer.add_add_space_prefix(pieces.dummy_prefix)
    if pieces.squeeze_spaces:
        writer.add_remove_extra_whitespaces(True)
    if pieces.character_map:
        notes.append(
            "GGUF has no place for the rules by which this tokenizer narrows characters (such as "
            "full-width punctuation): a text that needs them is cut otherwise"
        )
    return notes


def _write_defaults(writer: Any, defaults: Mapping[str, Any]) -> list[str]:
    """Writes sampling parameters; returns what there was no place for."""
    left = dict(defaults)
    for name, ours in SAMPLING.items():
        if ours in left:
            value = left.pop(ours)
            write = writer.add_int32 if ours == "top_k" else writer.add_float32
            write(f"general.sampling.{name}", value)
    return [f"GGUF has no place for the default {n}={v}: pass it" for n, v in left.items()]
