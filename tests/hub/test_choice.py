"""What is taken of a repository, by the names of its files."""

from __future__ import annotations

import re

import pytest
import tinyzh
from tinyzh.hub import choose

HF = [
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
]
OTHERS = [".gitattributes", "README.md", "LICENSE", "training_args.bin", "optimizer.bin"]


def test_llama2c_checkpoint_before_everything_else() -> None:
    choice = choose(
        [
            "a.tz",
            "a.gguf",
            "llama2c-93MB.bin",
            "model.safetensors",
            "pytorch_model.bin",
            *OTHERS,
            *HF,
        ]
    )
    assert choice.path == "llama2c-93MB.bin"
    assert choice.format == "llama2.c"
    assert set(choice.files) == {"llama2c-93MB.bin", "tokenizer.model"}


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model.fp16.bin",
        "diffusion_pytorch_model.bin",
        "training_args.bin",
        "optimizer.bin",
        "scheduler.bin",
        "adapter_model.bin",
        "tokenizer.bin",
        "tokenizer-zh.bin",
        "story.tokenizer.bin",
        "tok512.bin",
        "poem_zh_tok2048.bin",
        "ggml-model-q4_0.bin",
        "openvino_model.bin",
        "vocab.bin",
        "consolidated.00.bin",
        "lora.bin",
        "value_head.bin",
        "learned_embeds.bin",
        "story.imatrix.bin",
        "train.bin",
        "stories_val.bin",
    ],
)
def test_a_bin_that_is_no_checkpoint(name: str) -> None:
    with pytest.raises(tinyzh.FileMissing, match="no model among its files"):
        choose([name, *OTHERS])
    assert choose([name, "story.bin"]).path == "story.bin"


@pytest.mark.parametrize(
    "name",
    ["model.bin", "stories15M.bin", "tokyo.bin", "bistok.bin", "out/ckpt.bin", "headless.bin"],
)
def test_a_bin_that_is_one(name: str) -> None:
    assert choose([name, *OTHERS]).path == name


@pytest.mark.parametrize(
    "others",
    [
        ["openvino_model.bin", "openvino_model.xml"],
        ["anything.bin", "anything.xml"],
        ["net.bin", "net.param"],
        ["model.bin", "vocabulary.json"],
        ["model.bin", "shared_vocabulary.txt", "config.json"],
        ["vocab.bin"],
    ],
    ids="-".join,
)
def test_weights_of_other_programs_are_known_by_what_lies_beside_them(others: list[str]) -> None:
    assert choose([*others, *HF, "model.safetensors"]).format == "Hugging Face"
    assert choose([*others, "story.bin"]).path == "story.bin"
    assert choose(["model.bin", "vocabulary_of_mine.json"]).path == "model.bin"


def test_the_tokenizers_go_along() -> None:
    own = ["a.tokenizer.model", "a.tokenizer.bin", "a.model"]
    general = ["tokenizer.model", "tokenizer.bin", "tok512.bin", "tok512.model"]
    files = [*own, *general, "b.model", "b.tokenizer.bin", "sub/tokenizer.model", "tokens.txt"]
    assert set(choose(["a.bin", *files]).files) == {"a.bin", *own, *general}


def test_tz_before_a_folder() -> None:
    choice = choose([*HF, "model.safetensors", "story.tz", "story.tz.tokenizer.bin"])
    assert (choice.path, choice.format) == ("story.tz", "tz")
    assert set(choice.files) == {"story.tz", "story.tz.tokenizer.bin", "tokenizer.model"}


def test_hugging_face_folder() -> None:
    choice = choose([*OTHERS, *HF, "model.safetensors", "pytorch_model.bin", "x-f32.gguf"])
    assert (choice.path, choice.format) == ("", "Hugging Face")
    assert set(choice.files) == {*HF, "model.safetensors"}


def test_shards() -> None:
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    index = "model.safetensors.index.json"
    assert set(choose([*HF, index, *shards, "model-old.safetensors"]).files) == {
        *HF,
        index,
        *shards,
    }
    with pytest.raises(tinyzh.FileMissing):  # a part of the cache, say
        choose([*HF, index, *shards[:2]])
    with pytest.raises(tinyzh.FileMissing):
        choose([*HF, *shards])
    with pytest.raises(tinyzh.FileMissing, match="without the files"):
        choose([*HF, index], index)


def test_weights_without_config_are_no_model() -> None:
    with pytest.raises(tinyzh.FileMissing):
        choose(["model.safetensors", "tokenizer.model"])
    assert choose(["model.safetensors", "a.gguf"]).path == "a.gguf"
    with pytest.raises(tinyzh.FileMissing, match=r"config\.json"):
        choose(["model.safetensors"], "model.safetensors")


def test_pickles_come_last() -> None:
    assert choose([*HF, "pytorch_model.bin", "a.gguf"]).path == "a.gguf"
    choice = choose([*HF, "pytorch_model.bin"])
    assert (choice.path, choice.format) == ("", "PyTorch")
    assert set(choice.files) == {*HF, "pytorch_model.bin"}


GGUF = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_k_m"]


@pytest.mark.parametrize("best", range(len(GGUF)))
def test_gguf_by_precision(best: int) -> None:
    files = [f"story-15M-{kind.upper()}.gguf" for kind in GGUF[best:]]
    choice = choose([*reversed(files), "tokenizer.model", "config.json"])
    assert choice.files == (files[0],)
    assert (choice.path, choice.format) == (files[0], "GGUF")


def test_a_gguf_that_is_no_model() -> None:
    files = ["a-Q4_0.gguf", "mmproj-f16.gguf", "imatrix.gguf", "ggml-vocab-llama.gguf"]
    assert choose(files).path == "a-Q4_0.gguf"


def test_gguf_of_several_models_or_in_parts() -> None:
    with pytest.raises(tinyzh.InvalidArgument, match=r"15M-f16\.gguf.*42M-f32\.gguf"):
        choose(["15M-f16.gguf", "42M-f32.gguf"])
    with pytest.raises(tinyzh.InvalidArgument, match=r"Q5_K_M\.gguf.*Q6_K\.gguf"):
        choose(["a-Q5_K_M.gguf", "a-Q6_K.gguf"])  # none of them is said to be the better one
    with pytest.raises(tinyzh.InvalidArgument, match="parts"):
        choose(["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"])


def test_several_that_fit_are_listed() -> None:
    files = ["stories15M.bin", "stories42M.bin", "sub/stories260K.bin", "sub/tok512.bin"]
    with pytest.raises(tinyzh.InvalidArgument) as caught:
        choose(files)
    assert "stories15M.bin, stories42M.bin;" in str(caught.value)
    assert "NAME:FILE" in str(caught.value)
    assert choose(files, "stories42M.bin").files == ("stories42M.bin",)


def test_folders_inside() -> None:
    files = ["README.md", "sub/stories260K.bin", "sub/tok512.bin", "sub/deep/x.bin"]
    choice = choose(files)
    assert choice.path == "sub/stories260K.bin"
    assert set(choice.files) == {"sub/stories260K.bin", "sub/tok512.bin"}
    assert choose(["a.bin", *files]).path == "a.bin"
    assert choose(["a.bin", *files], "sub") == choose(["a.bin", *files], "sub/") == choice
    assert choose(["a.bin", *files], "sub/deep").path == "sub/deep/x.bin"
    with pytest.raises(tinyzh.InvalidArgument, match=re.escape("a/x.bin, b/x.bin")):
        choose(["a/x.bin", "b/x.bin"])
    folder = choose(["hf/config.json", "hf/model.safetensors"])
    assert (folder.path, folder.files) == ("hf", ("hf/model.safetensors", "hf/config.json"))


@pytest.mark.parametrize(
    ("file", "path", "format"),
    [
        ("model.safetensors", "", "Hugging Face"),
        ("config.json", "", "Hugging Face"),
        ("pytorch_model.bin", "", "PyTorch"),
        ("a.bin", "a.bin", "llama2.c"),
        ("a.tz", "a.tz", "tz"),
        ("a-q4_0.gguf", "a-q4_0.gguf", "GGUF"),
        ("sub/b.bin", "sub/b.bin", "llama2.c"),
    ],
)
def test_a_named_file(file: str, path: str, format: str) -> None:
    files = [*HF, "model.safetensors", "pytorch_model.bin", "a.bin", "a.tz", "sub/b.bin"]
    choice = choose([*files, "a-q4_0.gguf", "a-f16.gguf"], file)
    assert (choice.path, choice.format) == (path, format)
    assert file in choice.files


def test_a_named_file_that_is_no_model_or_not_there() -> None:
    with pytest.raises(tinyzh.InvalidArgument, match=r"README\.md is not a model"):
        choose(["README.md", "a.bin"], "README.md")
    with pytest.raises(tinyzh.FileMissing, match=r"no file b\.bin; there are a\.bin"):
        choose(["a.bin"], "b.bin")
    with pytest.raises(tinyzh.FileMissing, match="none at all"):
        choose([])
