"""Whether a conversion kept what it promises."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CheckpointError, TokenizerError
from .conversion import FILES, Conversion, Progress
from .found import open_path
from .pieces import difference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..model import Model

__all__ = ["Verified", "verify"]

#: Largest difference of logits over the largest logit that computing with such weights accounts
#: for.  The weights themselves are compared much more closely.
_ALLOWED = {"float32": 1e-4, "float16": 0.02, "int8": 0.2, "int4": 1.0}
_Q8_0 = 32  # weights that share a scale


@dataclass(frozen=True)
class Verified:
    """How near two models are to each other, of which one was made of the other."""

    tensors: int  #: compared, each of them whole
    weights: float  #: largest difference over the largest weight of its tensor; 0: the same bits
    tokens: int  #: positions whose logits were compared
    logits: float  #: largest difference over the largest logit; 0: the same bits
    same_choice: float  #: share of positions with the same most probable token


def verify(
    source: str | os.PathLike[str],
    done: Conversion,
    progress: Progress = lambda done, total, what: None,
) -> Verified:
    """Compares what was written with what it was written from.

    Configuration, special tokens, defaults and tokenizer must be equal as far as the format holds
    them; weights must have the same bits, or be rounded as the format rounds, each within half a
    step; logits are computed in the end, as a reader would.

    Args:
        source: what was given to ``convert``.
        done: what ``convert`` returned.
        progress: told how far it is: ``comparing``.

    Raises:
        CheckpointError: something differs by more; the message names it.
    """
    from ..model import Model

    target = done.target
    wanted = done.dtype if done.format == "tz" else "auto"
    with (
        Model(source, tokenizer=False, dtype=wanted) as before,
        Model(target, tokenizer=False) as after,
    ):
        _check_said(before, after, done)
        _check_tokenizer(done)
        weights = _check_weights(before, after, done, progress)
        precision = done.dtype if done.dtype in _ALLOWED else "float32"
        lower = max(before.dtype, after.dtype, precision, key=list(_ALLOWED).index)
        exact = weights == 0 and before.dtype == after.dtype
        tokens, logits, choice = _compare_logits(before, after)
        if logits > (0 if exact else _ALLOWED[lower]):
            raise _differs(done, f"its logits differ by {logits:.1e} of the largest")
        return Verified(len(before.weights), weights, tokens, logits, choice)


def _differs(done: Conversion, words: str) -> CheckpointError:
    return CheckpointError(f"{done.target}: {words}: do not use it")


def _check_said(before: Model, after: Model, done: Conversion) -> None:
    """Configuration, special tokens and defaults."""
    for name, value in dataclasses.asdict(before.config).items():
        found = getattr(after.config, name)
        # GGUF has theta in single precision.
        if not (
            found == value or (name == "rope_theta" and math.isclose(found, value, rel_tol=1e-7))
        ):
            raise _differs(done, f"its {name} is {found} and was {value}")
    if done.format in FILES:  # which say nothing of the rest
        return
    ours, theirs = done.special, after.special
    told = ours.ends[: 1 + 3] if done.format == "gguf" else ours.ends
    if (theirs.bos, theirs.add_bos, set(theirs.ends)) != (ours.bos, ours.add_bos, set(told)):
        raise _differs(done, f"its special tokens are {theirs} and were {ours}")
    defaults = before.defaults
    if done.format == "gguf":
        defaults = dataclasses.replace(defaults, max_new_tokens=None)
    if after.defaults != defaults:
        raise _differs(done, f"its defaults are {after.defaults} and were {defaults}")


def _check_tokenizer(done: Conversion) -> None:
    """Pieces, and how they cut a text of them."""
    if (before := done.tokenizer) is None:
        return
    try:
        after = open_path(done.target).tokenizer()
    except TokenizerError as error:
        raise _differs(done, f"its tokenizer cannot be read ({error})") from None
    if words := difference(before, after):
        raise _differs(done, f"its tokenizer {words}")


# ---- weights -----------------------------------------------------------------------------------


def _check_weights(before: Model, after: Model, done: Conversion, progress: Progress) -> float:
    """The largest difference over the largest weight of its tensor."""
    import numpy as np

    if list(before.weights) != list(after.weights):
        raise _differs(done, f"its tensors are {', '.join(after.weights)}")
    group = after._checkpoint["group_size"]
    rounded = group != before._checkpoint["group_size"] and done.format == "v2"
    worst, compared = 0.0, 0
    for name, array in before.weights.items():
        progress(compared, before.parameters, "comparing")
        compared += array.size
        found = after.weights[name]
        expected, allowed = _promised(array, done, group if rounded else 0)
        if found.tobytes() != expected.tobytes():
            off = np.abs(found - expected).reshape(allowed.shape[0], -1).max(axis=-1)
            if not (off <= allowed).all():
                raise _differs(
                    done, f"its {name} is off by {np.abs(found - array).max():.2e}, more than "
                    "rounding makes"
                )  # fmt: skip
        if found.tobytes() != array.tobytes():
            worst = max(worst, float(np.abs(found - array).max() / np.abs(array).max()))
    return worst


def _promised(
    array: NDArray[np.float32], done: Conversion, v2_group: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """What a tensor is to become, and how far each of its groups may be from that."""
    import numpy as np

    exact = np.zeros(1)
    if v2_group and array.ndim == 2:
        return array, _half_steps(array, v2_group, exact_scale=True)
    matrix = array.ndim == 2 or done.format == "hf"  # a GGUF keeps its vectors as they are
    if done.dtype == "float16" and matrix:
        return array.astype(np.float16).astype(np.float32), exact
    if done.format == "gguf" and done.dtype == "int8" and matrix:
        if array.shape[-1] % _Q8_0 == 0:
            return array, _half_steps(array, _Q8_0, exact_scale=False)
        return array.astype(np.float16).astype(np.float32), exact
    return array, exact


def _half_steps(
    array: NDArray[np.float32], group: int, *, exact_scale: bool
) -> NDArray[np.float64]:
    """Half a step of int8 for each group; of a scale in float16, with what that is off."""
    import numpy as np

    step = np.abs(array.reshape(-1, group)).max(axis=-1).astype(np.float64) / 127
    off = 0 if exact_scale else 127 * np.abs(step.astype(np.float16).astype(np.float64) - step)
    half: NDArray[np.float64] = step * 0.5001 + off
    return half


# ---- logits ------------------------------------------------------------------------------------


def _compare_logits(before: Model, after: Model) -> tuple[int, float, float]:
    """Positions, largest difference over the largest logit, share of the same first choice."""
    import numpy as np

    random = np.random.default_rng(1)
    length, last = min(64, before.config.seq_len), before.config.vocab_size
    texts = [[int(i) for i in random.integers(0, last, length)] for _ in range(4)]
    a, b = (np.concatenate([model.logits(ids) for ids in texts]) for model in (before, after))
    if a.tobytes() == b.tobytes():
        return len(a), 0.0, 1.0
    # An infinity or what is no number is as far away as can be.
    off = float(np.nan_to_num(np.abs(a - b), nan=np.inf).max() / np.abs(a).max())
    return len(a), off, float((a.argmax(axis=-1) == b.argmax(axis=-1)).mean())
