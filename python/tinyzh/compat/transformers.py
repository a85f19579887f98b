"""What programs for Hugging Face's transformers import, on tinyzh's engine (docs/transformers.md).

>>> from tinyzh.compat.transformers import AutoModelForCausalLM, AutoTokenizer
>>> tokenizer = AutoTokenizer.from_pretrained()            # the built-in story model
>>> model = AutoModelForCausalLM.from_pretrained()
>>> inputs = tokenizer(["从前"], return_tensors="np")
>>> outputs = model.generate(**inputs, do_sample=True, temperature=0.9, max_new_tokens=100)
>>> print(tokenizer.batch_decode(outputs, skip_special_tokens=True)[0])

PyTorch is imported only where it is asked for.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..errors import BackendError, GenerationError, InvalidArgument
from ..formats.found import open_path
from ..formats.huggingface import read_json
from ..generation import Generation
from ..model import Model
from ..opened import when_there_is_room
from ..sampling import SamplingParams, checked_integer
from ..special import EOS
from .encoding import BatchEncoding, LlamaTokenizer, lists_of, tensor, tensor_like
from .opening import MODEL_OPTIONS, as_dtype, located, sorted_out

__all__ = [
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "BatchEncoding",
    "LlamaForCausalLM",
    "LlamaTokenizer",
]

#: The settings that generate knows, and what transformers does where nobody says anything.
_DEFAULTS: dict[str, Any] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "max_new_tokens": None,
    "max_length": None,
    "min_new_tokens": None,
    "num_return_sequences": 1,
    "eos_token_id": None,
    "pad_token_id": None,
}
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")
_NEW_TOKENS = 20  # where no length is given
#: Other settings of transformers, and the values with which they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "use_cache": (True, False),
    "early_stopping": (True, False),
    "num_beams": (1,),
    "length_penalty": (1,),
    "typical_p": (1,),
    "min_length": (0,),
    "no_repeat_ngram_size": (0,),
    "return_dict_in_generate": (False,),
    "output_scores": (False,),
    "output_logits": (False,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
}
#: What a generation_config holds beside settings.
_REMARKS = ("_from_model_config", "transformers_version", "bos_token_id")


class Streamer(Protocol):
    """What transformers' TextStreamer and TextIteratorStreamer have."""

    def put(self, value: Any) -> object: ...
    def end(self) -> object: ...


class LlamaForCausalLM:
    """A tinyzh model with the interface of transformers' models.

    Args:
        model: the model that computes; ``.model`` is it again, with all that tinyzh can do.
        generation_config: settings that ``generate`` takes where it is told nothing else, by
            transformers' names; None: only that BOS and EOS end a text.
    """

    def __init__(self, model: Model, generation_config: Mapping[str, Any] | None = None) -> None:
        self.model = model
        ends = list(model.special.ends)
        own = {"eos_token_id": ends, "pad_token_id": ends[-1]}
        self.generation_config = dict(own if generation_config is None else generation_config)

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str] | None = None, **options: Any
    ) -> LlamaForCausalLM:
        """Opens a model.

        Args:
            path: what ``tinyzh.Model`` opens; a name on the hub, if there is no such file; None:
                the built-in story model.
            options: the other arguments of ``tinyzh.Model``, such as ``dtype="int8"``; of
                ``tinyzh.hub.pull``, such as ``revision``; those of transformers that change nothing
                here, such as ``device_map="auto"``, ``torch_dtype`` and ``trust_remote_code``.

        Raises:
            InvalidArgument: an argument that is none of these is named.
            FileMissing, FileError, CheckpointError, TokenizerError: as ``tinyzh.Model``.
        """
        own, hub = sorted_out(options, (*MODEL_OPTIONS, "torch_dtype"))
        dtypes = [own.pop(name) for name in ("torch_dtype", "dtype") if name in own]
        if dtypes:
            own["dtype"] = as_dtype(dtypes[-1])
        if path is None:
            return cls(Model(**own))
        where = located(path, **hub)
        found = open_path(where)
        wishes = _generation_config(where) if found.format == "Hugging Face" else None
        return cls(Model(found, **own), wishes)

    # ---- what a module of PyTorch has -----------------------------------------------------------

    @property
    def device(self) -> str:
        """Where inputs belong; any place will do."""
        return "cpu"

    def to(self, device: Any) -> LlamaForCausalLM:
        """Itself; BackendError for anything but the CPU."""
        if str(device) != "cpu":
            raise BackendError(f"device is {str(device)!r:.100}: this model computes on the cpu")
        return self

    def eval(self) -> LlamaForCausalLM:
        """Itself: it cannot be trained."""
        return self

    # ---- generation ---------------------------------------------------------------------------

    def generate(
        self,
        inputs: Any = None,
        generation_config: Any = None,
        *,
        input_ids: Any = None,
        attention_mask: Any = None,
        streamer: Streamer | None = None,
        seed: int | None = None,
        **settings: Any,
    ) -> Any:
        """Continues each row; all rows are computed together.

        Args:
            inputs, input_ids: token ids, (B, T): a PyTorch tensor, a NumPy array or lists.
            attention_mask: 0 for padding, which is left out; None: there is none.
            generation_config: transformers' GenerationConfig, or a mapping of settings.
            streamer: its ``put`` gets the prompt and then each token of the only row.
            seed: of the random numbers; row i uses seed + i.
            settings: do_sample, temperature, top_k, top_p, min_p, repetition_penalty,
                max_new_tokens, max_length, min_new_tokens, num_return_sequences, eos_token_id,
                pad_token_id, with the meanings and defaults they have in transformers.

        Returns:
            Prompts and new tokens, (B * num_return_sequences, up to T + max_new_tokens), of the
            kind that the input is; rows that ended early are filled up with pad_token_id.

        Raises:
            InvalidArgument: a setting that this engine does not have is named; a bad value.
            ContextFull: a prompt is longer than the context.
        """
        asked = self._settings(generation_config, settings)
        given = input_ids if inputs is None else inputs
        if given is None or (inputs is not None and input_ids is not None):
            raise InvalidArgument("generate needs input_ids, once")
        rows = lists_of("input_ids", given)
        prompts = rows if attention_mask is None else _unmasked(rows, attention_mask)
        copies = checked_integer("num_return_sequences", asked["num_return_sequences"], 1, 2**20)
        if copies > 1 and not asked["do_sample"]:
            raise InvalidArgument(
                f"num_return_sequences is {copies}: without do_sample=True all would be the same"
            )
        if streamer is not None and len(rows) * copies > 1:
            raise InvalidArgument(f"a streamer takes one row, and there are {len(rows) * copies}")
        ends = self._ends(asked["eos_token_id"])
        params = self._params(asked, len(rows[0]), seed)
        running = self._submit([p for p in prompts for _ in range(copies)], params, ends)
        if streamer is not None:
            as_tensor = given if hasattr(given, "tolist") else tensor("np", rows)
            streamer.put(as_tensor)
            self._stream(running[0], ends, streamer, as_tensor)
        told = [self._tokens(generation, ends) for generation in running]
        pad = asked["pad_token_id"]
        if pad is None:
            pad = ends[0] if ends else 0
        width = max(map(len, told))
        whole = [
            [*rows[i // copies], *new, *[pad] * (width - len(new))] for i, new in enumerate(told)
        ]
        return tensor_like(given, whole)

    def _settings(self, config: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings: of the call, of its config, of the model, and the defaults, in this order.

        As in transformers, None in the call turns a setting off, and None in a config says nothing.
        """
        if config is not None and not isinstance(config, Mapping):
            config = config.to_diff_dict()
        for name, value in {**self.generation_config, **(config or {}), **settings}.items():
            known = name in _DEFAULTS or name in _REMARKS
            if not known and value is not None and value not in _NEUTRAL.get(name, ()):
                raise InvalidArgument(
                    f"{name}={value!r:.100} is nothing that this engine does; generate takes "
                    f"{', '.join(_DEFAULTS)} and seed"
                )
        asked = dict(_DEFAULTS)
        for layer in (self.generation_config, config or {}):
            asked |= {name: value for name, value in layer.items() if value is not None}
        asked |= settings
        if not asked["do_sample"]:
            for name in set(settings) & set(_SAMPLING):
                if settings[name] is not None:
                    warnings.warn(f"{name} does nothing without do_sample=True", stacklevel=3)
        return asked

    def _params(self, asked: Mapping[str, Any], width: int, seed: int | None) -> SamplingParams:
        """In tinyzh's words; ``width`` is the prompts' length, padding included."""
        if asked["max_new_tokens"] is not None:
            most = checked_integer("max_new_tokens", asked["max_new_tokens"], 1, 2**31 - 1)
        elif asked["max_length"] is not None:
            length = checked_integer("max_length", asked["max_length"], 1, 2**31 - 1)
            if (most := length - width) < 1:
                raise InvalidArgument(
                    f"max_length is {length}: the input has {width} tokens already; max_new_tokens "
                    "counts the new ones alone"
                )
        else:
            most = max(1, min(_NEW_TOKENS, self.model.config.seq_len - width))
        # Whatever is off for the call must not come back as a default of tinyzh's.
        off = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
        sampling = {n: off[n] if asked[n] is None else asked[n] for n in _SAMPLING}
        penalty = asked["repetition_penalty"]
        return SamplingParams(
            **(sampling if asked["do_sample"] else {**off, "temperature": 0.0}),
            repetition_penalty=1.0 if penalty is None else penalty,
            max_new_tokens=most,
            min_new_tokens=asked["min_new_tokens"] or 0,
            seed=seed,
        ).with_seed()

    def _ends(self, value: Any) -> list[int]:
        """One end token, several, or none, as transformers takes them; those of the vocabulary."""
        values = value.tolist() if hasattr(value, "tolist") else value
        values = [] if values is None else values if isinstance(values, (list, tuple)) else [values]
        ids = [checked_integer("eos_token_id", i, 0, 2**31 - 1) for i in values]
        return [i for i in ids if i < self.model.config.vocab_size]

    def _submit(
        self, prompts: Sequence[list[int]], params: SamplingParams, ends: Sequence[int]
    ) -> list[Generation]:
        running: list[Generation] = []
        for i, prompt in enumerate(prompts):
            one = params.plus_seed(i)
            submit = partial(self.model._submit, prompt, one, False, None, ends)
            running.append(when_there_is_room(submit, running))
        return running

    def _stream(
        self, generation: Generation, ends: Sequence[int], streamer: Streamer, like: Any
    ) -> None:
        """Puts each token when its piece of text is certain, and the end token too."""
        sent = 0
        for _ in generation:  # left early, by Ctrl-C say, it cancels
            for token in generation.token_ids[sent:]:
                streamer.put(tensor_like(like, [token]))
                sent += 1
        for token in self._tokens(generation, ends)[sent:]:
            streamer.put(tensor_like(like, [token]))
        streamer.end()

    def _tokens(self, generation: Generation, ends: Sequence[int]) -> list[int]:
        """The new tokens, with the one that ended them, as transformers returns them."""
        generation.wait()
        if generation.finish_reason == "error":
            generation.read()  # raises what went wrong
        if generation.finish_reason not in ("stop", "length"):
            raise GenerationError("the model was closed before the text was generated")
        tokens = generation.token_ids
        if generation.finish_reason == "length":
            return tokens
        if len(ends) == 1:
            return [*tokens, ends[0]]
        # The engine does not say which of them was drawn: the most probable one, then.
        last = self.model.logits([*generation.prompt_ids, *tokens])[-1]
        return [*tokens, max(ends, key=lambda i: float(last[i]))]

    def __repr__(self) -> str:
        return f"LlamaForCausalLM({self.model!r})"


AutoModelForCausalLM = LlamaForCausalLM
AutoTokenizer = LlamaTokenizer


def _generation_config(path: Path) -> dict[str, Any]:
    """The settings that a Hugging Face folder comes with."""
    folder = path if path.is_dir() else path.parent
    settings = {"eos_token_id": read_json(folder / "config.json").get("eos_token_id", EOS)}
    if (file := folder / "generation_config.json").exists():
        settings |= {n: value for n, value in read_json(file).items() if value is not None}
    return settings


def _unmasked(rows: list[list[int]], mask: Any) -> list[list[int]]:
    """The rows without their padding."""
    masks = lists_of("attention_mask", mask)
    if [len(m) for m in masks] != [len(row) for row in rows]:
        raise InvalidArgument(
            f"attention_mask is {len(masks)} times {len(masks[0])}: expected the shape of "
            f"input_ids, {len(rows)} times {len(rows[0])}"
        )
    kept = [[i for i, m in zip(*both, strict=True) if m] for both in zip(rows, masks, strict=True)]
    if empty := [i for i, row in enumerate(kept) if not row]:
        raise InvalidArgument(f"attention_mask leaves nothing of row {empty[0]}")
    return kept
