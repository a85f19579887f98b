"""Texts to token ids and back as transformers does it: batches, padding, special tokens."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any, Literal

from ..builtin import TOKENIZER
from ..errors import InvalidArgument
from ..extras import require
from ..formats.found import open_path
from ..formats.tokenizer_json import JsonTokenizer
from ..special import LLAMA2C, Special
from ..tokenizer import Tokenizer, open_tokenizer
from .opening import located, sorted_out

__all__ = ["BatchEncoding", "LlamaTokenizer", "lists_of", "tensor", "tensor_like"]


class BatchEncoding(dict[str, Any]):
    """``input_ids`` and ``attention_mask``, as a mapping and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device: Any) -> BatchEncoding:
        """Moves PyTorch tensors; the model takes them from wherever they are."""
        for name, value in self.items():
            if hasattr(value, "to"):
                self[name] = value.to(device)
        return self


class LlamaTokenizer:
    """A tinyzh tokenizer with the interface of transformers' tokenizers.

    Batches are padded on the left, as generation wants it; ``padding_side = "right"`` changes that.
    The padding is EOS unless ``pad_token`` or ``pad_token_id`` is set.
    """

    def __init__(self, tokenizer: Tokenizer, special: Special | None = None) -> None:
        special = special or getattr(tokenizer, "special", None) or LLAMA2C
        bos, eos = special.bos, special.eos
        self._tokenizer = tokenizer
        self._pieces = tokenizer.pieces
        kinds = [kind for _, kind in tokenizer.vocabulary.pieces()]
        specials = [i for i, kind in enumerate(kinds) if kind in ("control", "unknown")]
        if isinstance(tokenizer, JsonTokenizer):
            self._specials = {i: tokenizer.token(i) or "" for i in specials}
        else:
            names = {eos: "</s>", bos: "<s>"}
            self._specials = {
                i: "<unk>" if kinds[i] == "unknown" else names.get(i, "") for i in specials
            }
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos, eos, eos
        self.padding_side = "left"

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str] | None = None, **options: Any
    ) -> LlamaTokenizer:
        """The tokenizer that belongs to a model, whose weights are not read.

        Args:
            path: as for ``AutoModelForCausalLM.from_pretrained``.
            options: ``padding_side``, ``pad_token``; arguments of ``tinyzh.hub.pull``, such as
                ``revision``; those of transformers that change nothing here.

        Raises:
            InvalidArgument: an argument that is none of these is named.
        """
        own, hub = sorted_out(options, ("padding_side", "pad_token"))
        if path is None:
            tokenizer = cls(open_tokenizer(TOKENIZER))
        else:
            found = open_path(located(path, **hub))
            tokenizer = cls(found.tokenizer(), found.special)
        for name, value in own.items():
            setattr(tokenizer, name, value)
        return tokenizer

    # ---- special tokens -----------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return self._tokenizer.vocab_size

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def all_special_ids(self) -> list[int]:
        """Ids that ``skip_special_tokens`` leaves out."""
        return sorted(self._specials)

    @property
    def bos_token(self) -> str:
        """How BOS is written."""
        return self._specials.get(self.bos_token_id, "")

    @property
    def eos_token(self) -> str:
        """How EOS is written."""
        return self._specials.get(self.eos_token_id, "")

    @property
    def pad_token(self) -> str:
        """How the padding is written; can be set to another special token."""
        return self._specials.get(self.pad_token_id, "")

    @pad_token.setter
    def pad_token(self, token: str) -> None:
        for i, name in self._specials.items():
            if name == token and name:
                self.pad_token_id = i
                return
        known = ", ".join(sorted(filter(None, self._specials.values())))
        raise InvalidArgument(f"pad_token is {token!r:.100}: expected one of {known}")

    # ---- text to ids --------------------------------------------------------------------------

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of one text, BOS first unless ``add_special_tokens`` is False."""
        return self._tokenizer.encode(text, bos=add_special_tokens)

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        return_tensors: Literal["pt", "np"] | None = None,
        padding: bool | str = False,
        add_special_tokens: bool = True,
    ) -> BatchEncoding:
        """Token ids of a text, or of each text of a list.

        Args:
            return_tensors: ``pt``: PyTorch tensors (B, T); ``np``: NumPy arrays; None: lists.
            padding: True or ``longest``: all rows as long as the longest; attention_mask is 0 where
                there is padding.
            add_special_tokens: BOS before each text.

        Raises:
            InvalidArgument: rows of different lengths without padding cannot be a tensor.
            MissingPackage: ``pt``, and PyTorch is not installed.
        """
        if return_tensors not in (None, "pt", "np"):
            raise InvalidArgument(f"return_tensors is {return_tensors!r:.100}: expected pt or np")
        if padding not in (False, True, "longest", "do_not_pad"):
            raise InvalidArgument(f"padding is {padding!r:.100}: expected False, True or longest")
        texts = [text] if isinstance(text, str) else list(text)
        rows = [self.encode(one, add_special_tokens) for one in texts]
        masks = [[1] * len(row) for row in rows]
        if padding in (True, "longest"):
            width = max(map(len, rows), default=0)
            rows = [self._padded(row, self.pad_token_id, width) for row in rows]
            masks = [self._padded(mask, 0, width) for mask in masks]
        fields = {"input_ids": rows, "attention_mask": masks}
        if return_tensors is None:
            if isinstance(text, str):
                return BatchEncoding({name: value[0] for name, value in fields.items()})
            return BatchEncoding(fields)
        if len(set(map(len, rows))) > 1:
            raise InvalidArgument(
                f"the texts have from {min(map(len, rows))} to {max(map(len, rows))} tokens, "
                "which make no tensor: pass padding=True"
            )
        return BatchEncoding({n: tensor(return_tensors, value) for n, value in fields.items()})

    def _padded(self, row: list[int], filler: int, width: int) -> list[int]:
        padding = [filler] * (width - len(row))
        return row + padding if self.padding_side == "right" else padding + row

    # ---- ids to text --------------------------------------------------------------------------

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> str:
        """The text of one row of ids; broken characters become U+FFFD."""
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        parts = []
        for i in [ids] if isinstance(ids, int) else ids:
            index = operator.index(i)
            if not 0 <= index < self.vocab_size:
                raise InvalidArgument(
                    f"token is {index}: expected an id from 0 to {self.vocab_size - 1}"
                )
            if index not in self._specials:
                parts.append(self._pieces[index])
            elif not skip_special_tokens:
                parts.append(self._specials[index].encode())
        text = b"".join(parts).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._tokenizer.adds_dummy_prefix else text

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False) -> list[str]:
        """The text of each row."""
        return [self.decode(row, skip_special_tokens) for row in sequences]

    def __repr__(self) -> str:
        return f"LlamaTokenizer({self._tokenizer!r})"


# ---- tensors of three kinds --------------------------------------------------------------------


def lists_of(name: str, rows: Any) -> list[list[int]]:
    """A (B, T) tensor, array or list of lists as lists of integers.

    Raises:
        InvalidArgument: it has another shape, or holds something else.
    """
    found = rows.tolist() if hasattr(rows, "tolist") else rows
    try:
        lists = [[operator.index(i) for i in row] for row in found]
    except TypeError:
        raise InvalidArgument(
            f"{name} is {found!r:.100}: expected integers of the shape (B, T); a tokenizer gives "
            "them for a list of texts, or with return_tensors"
        ) from None
    if not lists or len({len(row) for row in lists}) > 1 or not lists[0]:
        raise InvalidArgument(
            f"{name} has {len(lists)} rows of the lengths {sorted({len(r) for r in lists})}: "
            "expected at least one, all of one length and none empty (padding=True)"
        )
    return lists


def tensor(kind: Literal["pt", "np"], rows: Sequence[Any]) -> Any:
    """A tensor of int64, of PyTorch or NumPy."""
    if kind == "pt":
        torch = require("torch", "train", "return_tensors='pt'")
        return torch.tensor(rows, dtype=torch.long)
    import numpy as np

    return np.array(rows, np.int64)


def tensor_like(model: Any, rows: Sequence[Any]) -> Any:
    """The rows as what ``model`` is: a PyTorch tensor on its device, a NumPy array, or lists."""
    if type(model).__module__.partition(".")[0] == "torch":
        return tensor("pt", rows).to(model.device)
    return tensor("np", rows) if hasattr(model, "tolist") else rows
