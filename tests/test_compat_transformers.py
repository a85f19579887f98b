"""Programs for transformers run on tinyzh: with lists, with NumPy, with PyTorch where it is
installed, and with the same ids as from transformers where that is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tinyzh
from places import ROOT
from small_models import Teller, char_ids
from tinyzh.compat.transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from tinyzh.formats.conversion import convert

BUILTIN = Path(tinyzh.__file__).parent / "data" / "story.bin"
PROMPTS = ["从前", "有一天，小兔子说：", "天空"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained()


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The built-in model as a Hugging Face folder."""
    pytest.importorskip("google.protobuf", reason="writes a Hugging Face folder")
    convert(BUILTIN, tmp_path / "hf", "hf", tokenizer=BUILTIN.with_name("story.tokenizer.model"))
    return tmp_path / "hf"


# ---- tokenizer ---------------------------------------------------------------------------------


def test_one_text_gives_one_row(tokenizer: Any, model: Any) -> None:
    found = tokenizer("从前")
    assert found == {"input_ids": model.model.tokenizer.encode("从前"), "attention_mask": [1, 1]}
    assert found.input_ids is found["input_ids"]
    assert tokenizer("从前", add_special_tokens=False).input_ids == found.input_ids[1:]
    assert tokenizer.encode("从前") == found.input_ids
    with pytest.raises(AttributeError, match="labels"):
        _ = found.labels


def test_batches_are_padded_on_the_left(tokenizer: Any) -> None:
    found = tokenizer(PROMPTS, return_tensors="np", padding=True)
    assert found.input_ids.dtype == found.attention_mask.dtype == np.int64
    width = found.input_ids.shape[1]
    for row, mask, text in zip(found.input_ids, found.attention_mask, PROMPTS, strict=True):
        ids = tokenizer.encode(text)
        padding = width - len(ids)
        assert row.tolist() == [tokenizer.pad_token_id] * padding + ids
        assert mask.tolist() == [0] * padding + [1] * len(ids)


def test_padding_can_be_chosen() -> None:
    tokenizer = AutoTokenizer.from_pretrained()
    assert tokenizer.pad_token == tokenizer.eos_token == "</s>"
    tokenizer.padding_side, tokenizer.pad_token = "right", "<unk>"
    found = tokenizer(PROMPTS[:2], padding="longest")
    assert found.input_ids[0][-1] == tokenizer.pad_token_id == 0
    assert found.attention_mask[0][-1] == 0
    with pytest.raises(ValueError, match=r"\[PAD\].*<s>"):
        tokenizer.pad_token = "[PAD]"


def test_rows_without_padding_are_no_tensor(tokenizer: Any) -> None:
    assert [len(row) for row in tokenizer(PROMPTS).input_ids] == [2, 6, 3]
    with pytest.raises(ValueError, match=r"from 2 to 6 tokens.*padding=True"):
        tokenizer(PROMPTS, return_tensors="np")
    with pytest.raises(ValueError, match="'tf': expected pt or np"):
        tokenizer(PROMPTS, return_tensors="tf")
    with pytest.raises(ValueError, match="'max_length': expected"):
        tokenizer(PROMPTS, padding="max_length")


def test_ids_and_text(tokenizer: Any) -> None:
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.vocab_size == len(tokenizer) == 3000
    told = "从前有龘"  # of which one character is bytes
    ids = [*tokenizer.encode(told), 2]
    assert tokenizer.batch_decode(np.array([ids, ids]), skip_special_tokens=True) == [told] * 2
    assert tokenizer.decode(ids) == f"<s> {told}</s>"
    assert tokenizer.decode(2) == "</s>"
    with pytest.raises(ValueError, match="token is -1"):
        tokenizer.decode([-1])


# ---- generate ----------------------------------------------------------------------------------


def test_the_script_of_the_hub_with_numpy(tokenizer: Any, model: Any) -> None:
    inputs = tokenizer(["从前"], return_tensors="np")
    outputs = model.generate(**inputs, max_new_tokens=256, temperature=0.9, do_sample=True, seed=4)
    expected = model.model.generate(
        "从前", temperature=0.9, top_k=50, top_p=1.0, max_new_tokens=256, seed=4
    )
    text = expected.read()
    assert outputs.dtype == np.int64
    assert outputs[0, 2 : 2 + len(expected.token_ids)].tolist() == expected.token_ids
    assert tokenizer.batch_decode(outputs, skip_special_tokens=True) == ["从前" + text]


def test_greedy_is_the_default_and_rows_are_alone(tokenizer: Any, model: Any) -> None:
    inputs = tokenizer(PROMPTS, padding=True)
    outputs = model.generate(**inputs, max_new_tokens=12)
    for row, before, text in zip(outputs, inputs.input_ids, PROMPTS, strict=True):
        alone = model.model.generate(text, temperature=0, max_new_tokens=12)
        alone.read()
        assert row == before + alone.token_ids
    by_position = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask)
    assert [row[: len(outputs[0])] for row in by_position] == outputs
    assert len(by_position[0]) == len(inputs.input_ids[0]) + 20


def test_rows_that_end_early_are_filled_up(tell: Teller) -> None:
    with tell(char_ids("从前有一只")) as scripted:
        model = LlamaForCausalLM(scripted)
        rows = [char_ids("从"), char_ids("一")]
        assert model.generate(rows) == [
            [*char_ids("从前有一只"), 2],
            [*char_ids("一只"), 2, 2, 2, 2],
        ]
        assert model.generate(rows, pad_token_id=0)[1][-3:] == [0, 0, 0]
        assert model.generate(rows, max_new_tokens=2) == [
            char_ids("从前有"),
            [*char_ids("一只"), 2],
        ]
        assert model.generate(rows, max_length=2) == [char_ids("从前"), char_ids("一只")]
        until = char_ids("有")[0]
        assert model.generate(rows[:1], eos_token_id=until) == [char_ids("从前有")]
        assert model.generate(rows[1:], eos_token_id=[2, 10**6]) == [[*char_ids("一只"), 2]]
        on = model.generate(rows[1:], eos_token_id=None, max_new_tokens=4)[0]
        assert on[:3] == [*char_ids("一只"), 2]
        assert len(on) == 5


def test_several_of_each_row(tokenizer: Any, model: Any) -> None:
    inputs = tokenizer(PROMPTS[:2], padding=True)
    asked = {"do_sample": True, "max_new_tokens": 8, "seed": 7}
    outputs = model.generate(**inputs, **asked, num_return_sequences=2)
    width = len(inputs.input_ids[0])
    assert [row[:width] for row in outputs] == [inputs.input_ids[i] for i in (0, 0, 1, 1)]
    assert outputs[0] != outputs[1]
    assert model.generate([inputs.input_ids[1]], **{**asked, "seed": 9})[0] == outputs[2]
    with pytest.raises(ValueError, match="num_return_sequences is 2"):
        model.generate(**inputs, num_return_sequences=2)


@pytest.mark.parametrize(
    ("asked", "ours"),
    [
        ({}, {"top_k": 50}),
        ({"top_k": None}, {"top_k": 0}),
        ({"top_p": 0.5, "temperature": 0.7}, {"top_k": 50, "top_p": 0.5, "temperature": 0.7}),
        ({"min_p": 0.2, "top_k": 0}, {"min_p": 0.2}),
        ({"repetition_penalty": 1.5, "top_k": 3}, {"repetition_penalty": 1.5, "top_k": 3}),
        ({"min_new_tokens": 20, "top_k": 2}, {"min_new_tokens": 20, "top_k": 2}),
    ],
    ids=str,
)
def test_settings_mean_what_they_mean_there(
    tokenizer: Any, model: Any, asked: dict[str, Any], ours: dict[str, Any]
) -> None:
    ids = tokenizer(["从前"]).input_ids
    ours = {"temperature": 1.0, "top_p": 1.0, **ours}
    found = model._params(model._settings(None, {"do_sample": True, **asked}), 2, 5)
    assert found == tinyzh.SamplingParams(max_new_tokens=20, seed=5, **ours)
    expected = model.model.generate("从前", max_new_tokens=20, seed=5, **ours)
    expected.read()
    told = model.generate(ids, do_sample=True, seed=5, **asked)[0][2:]
    assert told[: len(expected.token_ids)] == expected.token_ids


def test_whatever_is_not_supported_is_named(tokenizer: Any, model: Any) -> None:
    inputs = tokenizer(["从前"])
    for name, value in {"num_beams": 4, "no_repeat_ngram_size": 2, "penalty_alpha": 0.6}.items():
        with pytest.raises(ValueError, match=f"^{name}={value} .*do_sample"):
            model.generate(**inputs, **{name: value})
        with pytest.raises(ValueError, match=name):
            model.generate(**inputs, generation_config={name: value})
    model.generate(**inputs, num_beams=1, use_cache=True, penalty_alpha=None, max_new_tokens=1)
    with pytest.warns(UserWarning, match="temperature does nothing without do_sample"):
        model.generate(**inputs, temperature=0.5, max_new_tokens=1)


def test_bad_input_is_refused(tokenizer: Any, model: Any) -> None:
    flat, inputs = tokenizer("从前"), tokenizer(["从前"])
    for ids, message in [
        (flat.input_ids, r"shape \(B, T\)"),
        ([[1, 2], [1]], "padding=True"),
        ([[]], "none empty"),
        ([[1, 10**6]], "from 0 to 2999"),
        (None, "needs input_ids"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.generate(ids)
    with pytest.raises(ValueError, match="once"):
        model.generate(inputs.input_ids, input_ids=inputs.input_ids)
    with pytest.raises(ValueError, match="1 times 3: expected the shape of input_ids, 1 times 2"):
        model.generate(inputs.input_ids, attention_mask=[[1, 1, 1]])
    with pytest.raises(ValueError, match="leaves nothing of row 0"):
        model.generate(inputs.input_ids, attention_mask=[[0, 0]])
    with pytest.raises(ValueError, match="max_length is 2: the input has 2 tokens"):
        model.generate(**inputs, max_length=2)
    with pytest.raises(tinyzh.ContextFull):
        model.generate([[5] * 1000], max_new_tokens=5)
    with pytest.raises(tinyzh.BackendError, match="cuda"):
        model.to("cuda")
    assert model.eval().to(model.device) is model


def test_a_model_that_is_closed_meanwhile(slow: tinyzh.Model) -> None:
    closing = threading.Timer(0.2, slow.close)
    closing.start()
    with pytest.raises(tinyzh.GenerationError, match="the model was closed before"):
        LlamaForCausalLM(slow).generate([char_ids("从")], max_new_tokens=4000, eos_token_id=[])
    closing.join()
    with pytest.raises(tinyzh.GenerationError, match="closed"):
        LlamaForCausalLM(slow).generate([char_ids("从")])


class Kept:
    """A streamer that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[list[Any]] = []
        self.ended = 0

    def put(self, value: Any) -> None:
        assert isinstance(value, np.ndarray)
        self.got.append(value.tolist())

    def end(self) -> None:
        self.ended += 1


def test_a_streamer_gets_the_prompt_and_every_token(tell: Teller) -> None:
    with tell(char_ids("从前有一只")) as scripted:
        streamer = Kept()
        start = [char_ids("从")]
        outputs = LlamaForCausalLM(scripted).generate(start, streamer=streamer)
        assert streamer.got == [start, *([i] for i in char_ids("前有一只")), [2]]
        assert streamer.ended == 1
        assert outputs == [[*char_ids("从前有一只"), 2]]
        with pytest.raises(ValueError, match="one row, and there are 2"):
            LlamaForCausalLM(scripted).generate(start * 2, streamer=Kept())


def test_torch_is_not_imported() -> None:
    program = (
        "import sys; from tinyzh.compat.transformers import *; t = AutoTokenizer.from_pretrained();"
        "m = AutoModelForCausalLM.from_pretrained();"
        "m.generate(**t(['从前'], return_tensors='np'), max_new_tokens=2);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_pt_without_torch_says_so(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torch":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(tinyzh.MissingPackage, match="return_tensors='pt': torch is not installed"):
        tokenizer("从前", return_tensors="pt")


def test_pytorch_in_and_out(tokenizer: Any, model: Any) -> None:
    torch = pytest.importorskip("torch", reason="return_tensors='pt'")
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True).to(model.device)
    outputs = model.generate(**inputs, max_new_tokens=10)
    assert outputs.dtype == torch.int64
    lists = tokenizer(PROMPTS, padding=True)
    assert outputs.tolist() == model.generate(**lists, max_new_tokens=10)
    assert tokenizer.batch_decode(outputs) == [tokenizer.decode(row) for row in outputs]


# ---- files -------------------------------------------------------------------------------------


def test_a_file_and_its_tokenizer(tiny_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_path, dtype="int8", threads=1)
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_path))
    assert (model.model.dtype, model.model.threads) == ("int8", 1)
    outputs = model.generate(tokenizer(["从前"]).input_ids, max_new_tokens=3, eos_token_id=[])
    assert len(outputs[0]) == len(tokenizer.encode("从前")) + 3


def test_a_name_on_the_hub(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def pull(name: str, **options: Any) -> Path:
        asked.append((name, options))
        return tiny_path

    monkeypatch.setitem(sys.modules, "tinyzh.hub", SimpleNamespace(pull=pull))
    model = AutoModelForCausalLM.from_pretrained("someone/stories", revision="v2", threads=1)
    tokenizer = AutoTokenizer.from_pretrained("someone/stories", revision="v2")
    assert asked == [("someone/stories", {"revision": "v2"})] * 2
    assert (model.model.threads, tokenizer.vocab_size) == (1, model.model.config.vocab_size)


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"device_map": "auto", "torch_dtype": "auto", "trust_remote_code": True}, "float32"),
        ({"torch_dtype": "float16", "low_cpu_mem_usage": True}, "float32"),
        ({"dtype": "bfloat16", "attn_implementation": "sdpa"}, "float32"),
        ({"dtype": "int8", "quantization_config": None}, "int8"),
        ({"device_map": {"": "cpu"}, "use_safetensors": True, "threads": 1}, "float32"),
    ],
    ids=str,
)
def test_arguments_that_change_nothing_here(
    tiny_path: Path, options: dict[str, Any], dtype: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_path, **options)
    assert model.model.dtype == dtype


def test_pytorchs_types(tiny_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="has types of its own")
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        model = AutoModelForCausalLM.from_pretrained(tiny_path, torch_dtype=dtype)
        assert model.model.dtype == "float32"
    with pytest.raises(ValueError, match=r"dtype is torch\.int16: expected auto, float32"):
        AutoModelForCausalLM.from_pretrained(tiny_path, dtype=torch.int16)


@pytest.mark.parametrize("path", [None, "tiny", "someone/stories"])
@pytest.mark.parametrize(
    "option",
    [{"device_map": "cuda"}, {"load_in_8bit": True}, {"subfolder": "x"}, {"nonsense": 1}],
    ids=str,
)
def test_arguments_that_are_not_there_are_named(
    tiny_path: Path, path: str | None, option: dict[str, Any]
) -> None:
    where = tiny_path if path == "tiny" else path
    (name,) = option
    for opener in (AutoModelForCausalLM, AutoTokenizer):
        with pytest.raises(tinyzh.InvalidArgument, match=f"{name}=.* is nothing that from_pretrai"):
            opener.from_pretrained(where, **option)


def test_a_tokenizer_takes_its_own_arguments(tiny_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(
        tiny_path, padding_side="right", use_fast=True, trust_remote_code=True, pad_token="<unk>"
    )
    found = tokenizer(["从", "从前"], padding=True)
    assert found.input_ids[0][-1] == tokenizer.pad_token_id == 0
    assert found.attention_mask[0][-1] == 0


@pytest.mark.parametrize("path", ["./no/file.bin", "no/file.bin", "/no/model", "a/b/c", "story"])
def test_a_path_that_is_not_there(path: str) -> None:
    for opener in (AutoModelForCausalLM, AutoTokenizer):
        with pytest.raises(tinyzh.FileMissing, match=f"^{re.escape(path)}: no such file$"):
            opener.from_pretrained(path)


def test_a_folder_brings_its_settings(folder: Path) -> None:
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "top_p": 0.5, "max_new_tokens": 7, "eos_token_id": [1, 2],'
        ' "pad_token_id": 0, "transformers_version": "5"}'
    )
    model, tokenizer = (
        opener.from_pretrained(folder) for opener in (AutoModelForCausalLM, AutoTokenizer)
    )
    ids = tokenizer(["从前"]).input_ids
    asked = model._settings(None, {})
    assert (asked["do_sample"], asked["top_p"], asked["top_k"]) == (True, 0.5, 50)
    assert (asked["eos_token_id"], asked["pad_token_id"]) == ([1, 2], 0)
    assert len(model.generate(ids)[0]) == len(ids[0]) + 7
    assert len(model.generate(ids, generation_config={"max_new_tokens": 3})[0]) == len(ids[0]) + 3
    (folder / "generation_config.json").unlink()
    alone = AutoModelForCausalLM.from_pretrained(folder)
    assert alone.generation_config == {"eos_token_id": 2}


# ---- docs/transformers.md ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
def test_the_docs_examples_run(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "transformers.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[number]
    if 'return_tensors="pt"' in code:
        pytest.importorskip("torch", reason="return_tensors='pt'")
    hub = SimpleNamespace(pull=lambda name: BUILTIN)
    monkeypatch.setitem(sys.modules, "tinyzh.hub", hub)
    exec(compile(code, "docs/transformers.md", "exec"), {})
    told = capsys.readouterr().out
    assert told.startswith("从前")
    assert len(told) > 50


# ---- beside transformers -----------------------------------------------------------------------


@pytest.fixture
def theirs(folder: Path) -> Any:
    """transformers' model and tokenizer of the folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = pytest.importorskip("transformers", reason="compares with it")
    torch = pytest.importorskip("torch", reason="transformers needs it")
    torch.set_num_threads(1)  # faster for so small a model
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    return model.eval(), tokenizer


@pytest.mark.slow
def test_the_same_ids_as_transformers(folder: Path, theirs: Any) -> None:
    their_model, their_tokenizer = theirs
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    expected = their_tokenizer(PROMPTS, return_tensors="pt", padding=True)
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    for name in ("input_ids", "attention_mask"):
        assert inputs[name].tolist() == expected[name].tolist()
    ended = []
    for asked in (
        {"max_new_tokens": 250},  # long enough for some of the stories to end
        {"max_new_tokens": 60, "repetition_penalty": 1.3, "use_cache": True},
        {"max_length": 40},
        {"max_new_tokens": 50, "eos_token_id": 2, "pad_token_id": 0, "min_new_tokens": 50},
        {},
    ):
        told = model.generate(**inputs, do_sample=False, **asked)
        there = their_model.generate(
            **expected, do_sample=False, **asked,
            **({} if "repetition_penalty" in asked else {"temperature": None, "top_p": None}),
        )  # fmt: skip
        assert told.tolist() == there.tolist(), asked
        ended.append(tokenizer.pad_token_id in told[:, -1].tolist())
        for skip in (False, True):
            assert tokenizer.batch_decode(told, skip_special_tokens=skip) == (
                their_tokenizer.batch_decode(there, skip_special_tokens=skip)
            )
    assert ended[0], "the first settings are there for rows that end early"


def test_transformers_own_config_and_streamer(
    folder: Path, theirs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer("从前", return_tensors="pt")
    config = transformers.GenerationConfig(max_new_tokens=30, do_sample=False)
    streamer = transformers.TextStreamer(tokenizer, skip_special_tokens=True)
    told = model.generate(**inputs, generation_config=config, streamer=streamer)
    assert told.shape[1] == inputs.input_ids.shape[1] + 30
    assert capsys.readouterr().out.strip() == tokenizer.decode(told[0], skip_special_tokens=True)
    with pytest.raises(ValueError, match="num_beams=2"):
        model.generate(**inputs, generation_config=transformers.GenerationConfig(num_beams=2))


def test_what_none_and_nothing_mean_there(folder: Path, theirs: Any) -> None:
    """top_k is 50 where nobody says anything, also beside a folder's own settings, and None in the
    call turns a filter off."""
    their_model, _ = theirs
    model = AutoModelForCausalLM.from_pretrained(folder)
    names = ("do_sample", "temperature", "top_k", "top_p", "min_p", "eos_token_id", "pad_token_id")
    for asked in ({}, {"top_k": None}, {"top_p": None, "min_p": 0.1}, {"eos_token_id": 2}):
        there, _ = their_model._prepare_generation_config(None, **asked)
        here = model._settings(None, asked)
        assert {n: here[n] for n in names} == {n: getattr(there, n) for n in names}
    assert model._settings(None, {})["top_k"] == 50
