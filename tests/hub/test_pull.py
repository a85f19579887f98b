"""Models from a hub: the real huggingface_hub against a server of our own."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tinyzh
from hub_server import Hub, Repository, pointer

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: tinyzh[hub]")

DATA = Path(tinyzh.__file__).parent / "data"
STORY = (DATA / "story.bin").read_bytes()
TOKENIZER = (DATA / "story.tokenizer.model").read_bytes()
NAME = "flyingfishinwater/tinystories_zh"
CONFIG = {
    "model_type": "llama",
    "hidden_size": 768,
    "intermediate_size": 2268,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 3000,
}
#: More than huggingface_hub reads at once, so that a part of it can be there already.
LARGE = random.Random(1).randbytes(26_000_000)
TOLD = """
import sys, tinyzh
with tinyzh.Model.from_pretrained(sys.argv[1]) as model:
    print(model.generate("从前", seed=7, max_new_tokens=20).read(), model.format, repr(model))
"""


def repository(**changes: Any) -> Repository:
    """With the files of the real one; the weights for transformers are not to be looked at."""
    files = {
        ".gitattributes": b"*.bin filter=lfs\n",
        "README.md": b"# stories\n",
        "config.json": json.dumps(CONFIG).encode(),
        "generation_config.json": b'{"top_p": 0.9}',
        "llama2c-93MB.bin": STORY,
        "pytorch_model.bin": b"a pickle",
        "tokenizer.model": TOKENIZER,
        "tokenizer_config.json": b'{"bos_token": "<s>"}',
    }
    lfs = {"llama2c-93MB.bin", "pytorch_model.bin", "tokenizer.model"}
    return Repository(files, lfs, **changes)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        server.repositories[NAME] = repository()
        yield server


Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Of a process for which the server is the hub."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "PYTHON", "LC_", "LANG"))
    }
    return kept | {
        "PYTHONPATH": str(DATA.parents[1]),
        "PYTHONUTF8": "1",
        "NO_PROXY": "*",
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


@pytest.fixture
def python(environment: dict[str, str]) -> Python:
    """``python("-m", "tinyzh", ...)``: a process of its own.

    huggingface_hub reads its environment when it is imported, hence a new one each time.
    """

    def call(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**environment, **env},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


@pytest.fixture
def pulled(python: Python) -> Python:
    """``pulled(...)``: tinyzh pull."""

    def call(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "tinyzh", "pull", *arguments, **env)

    return call


def path_of(result: subprocess.CompletedProcess[str]) -> Path:
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return Path(result.stdout.rstrip("\n"))


def error_of(result: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The message; it is one line."""
    assert result.returncode == code, result
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("tinyzh: error: ")]
    assert len(errors) == 1, result.stderr
    assert result.stderr.endswith(errors[0] + "\n")
    return errors[0].removeprefix("tinyzh: error: ")


# ---- what is brought -------------------------------------------------------------------------


def test_a_story_online_and_then_offline(hub: Hub, python: Python) -> None:
    with tinyzh.Model() as builtin:
        story = builtin.generate("从前", seed=7, max_new_tokens=20).read()
    expected = f"{story} llama2.c v2 <tinyzh.Model llama2c-93MB.bin: "
    online = python("-c", TOLD, NAME)
    assert online.stdout.startswith(expected), online.stderr
    assert sorted(hub.downloads()) == ["llama2c-93MB.bin", "tokenizer.model"]
    hub.stop_answering()
    asked = len(hub.requests)
    offline = python("-c", TOLD, NAME, HF_HUB_OFFLINE="1")
    assert offline.stdout == online.stdout, offline.stderr
    assert len(hub.requests) == asked


def test_path_for_the_command_line(hub: Hub, pulled: Python, python: Python) -> None:
    result = pulled(NAME)
    path = path_of(result)
    assert path.name == "llama2c-93MB.bin"
    assert path.read_bytes() == STORY
    assert result.stderr == ""  # no progress bars for a pipe
    told = python("-m", "tinyzh", "generate", "从前", "--model", path, "--max-new-tokens", "5")
    assert told.stdout.startswith("从前")
    # A second time nothing is downloaded, and the same is said.
    before = hub.downloads()
    assert path_of(pulled(NAME)) == path
    assert hub.downloads() == before


def test_json(hub: Hub, pulled: Python) -> None:
    facts = json.loads(pulled(NAME, "--json").stdout)
    commit = hub.repositories[NAME].commit
    assert facts["revision"] == commit
    assert facts["format"] == "llama2.c"
    assert (facts["name"], facts["offline"]) == (NAME, False)
    assert facts["bytes"] == len(STORY) + len(TOKENIZER)
    assert [Path(f).name for f in facts["files"]] == ["llama2c-93MB.bin", "tokenizer.model"]
    assert Path(facts["path"]).parent.name == commit
    assert json.loads(pulled(NAME, "--json", "--offline").stdout) == {**facts, "offline": True}


def test_a_named_file_and_a_folder(hub: Hub, pulled: Python) -> None:
    folder = path_of(pulled(f"{NAME}:pytorch_model.bin"))
    assert {p.name for p in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "pytorch_model.bin",
        "tokenizer.model",
        "tokenizer_config.json",
    }
    hub.repositories[NAME].files["sub [1]/a.bin"] = STORY
    path = path_of(pulled(f"{NAME}:sub [1]/a.bin"))
    assert path.parts[-2:] == ("sub [1]", "a.bin")
    assert path.read_bytes() == STORY


def test_revision_and_cache_folder(hub: Hub, pulled: Python, tmp_path: Path) -> None:
    commit = hub.repositories[NAME].commit
    for revision in ("v1", commit):
        path = path_of(pulled(NAME, "--revision", revision, "--cache-dir", str(tmp_path / "own")))
        assert path.is_relative_to(tmp_path / "own")
        assert path.parent.name == commit
    assert [ref.name for ref in path.parents[2].glob("refs/*")] == ["v1"]
    assert not (tmp_path / "hf").joinpath("hub").exists()
    message = error_of(pulled(NAME, "--revision", "v2"))
    assert message.startswith(f"{NAME}: no revision v2; take a branch, tag or commit")


def test_all_files_are_of_one_commit(hub: Hub, pulled: Python) -> None:
    """Whoever commits in between must not mix them: they are asked for by the commit's hash."""
    path_of(pulled(NAME))
    commit = hub.repositories[NAME].commit
    asked = [request for request in hub.requests if "/resolve/" in request]
    assert len(asked) >= 2
    assert all(f"/resolve/{commit}/" in request for request in asked)


def test_a_new_commit(hub: Hub, pulled: Python) -> None:
    """It is used when it is there as a whole, and until then the old one serves."""
    old = path_of(pulled(NAME))
    hub.repositories[NAME].files["llama2c-93MB.bin"] = STORY[:-4] + b"new."
    hub.repositories[NAME].gated = True
    error_of(pulled(NAME))
    assert path_of(pulled(NAME, "--offline")) == old
    hub.repositories[NAME].gated = False
    new = path_of(pulled(NAME))
    assert new.read_bytes().endswith(b"new.")
    assert path_of(pulled(NAME, "--offline")) == new


def test_a_part_is_no_model(hub: Hub, pulled: Python) -> None:
    commit = hub.repositories[NAME].commit
    hub.repositories[NAME].sent["llama2c-93MB.bin"] = pointer(STORY)
    error_of(pulled(NAME, "--revision", commit))
    message = error_of(pulled(NAME, "--revision", commit, "--offline"))
    assert "no model among its files: tokenizer.model" in message


def test_what_is_there_costs_one_request(hub: Hub, pulled: Python) -> None:
    path_of(pulled(NAME))
    hub.requests.clear()
    path_of(pulled(NAME))
    assert [r for r in hub.requests if NAME in r] == [f"GET /api/models/{NAME}/revision/main"]


def test_token(hub: Hub, pulled: Python) -> None:
    hub.repositories[NAME].token = "hf_secret"
    for env in ({}, {"HF_TOKEN": "hf_wrong"}):
        message = error_of(pulled(NAME, **env))
        assert message.startswith(f"{NAME}: no such repository at {hub.url}, or it is private")
    message = error_of(pulled(NAME, HF_TOKEN="hf_expired"))
    assert message.startswith(f"{NAME}: {hub.url} refuses the token")
    path_of(pulled(NAME, HF_TOKEN="hf_secret"))


def test_ctrl_c_ends_it_at_once(
    hub: Hub, environment: dict[str, str], pulled: Python, tmp_path: Path
) -> None:
    hub.repositories[NAME].stalls.add("llama2c-93MB.bin")
    command = [sys.executable, "-m", "tinyzh", "pull", NAME]
    patient = environment | {"HF_HUB_DOWNLOAD_TIMEOUT": "600"}  # it would wait for the file
    with subprocess.Popen(
        command,
        env=patient,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored in the background
    ) as process:
        try:
            assert hub.stalled.wait(60)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
    hub.repositories[NAME].stalls.clear()
    assert path_of(pulled(NAME)).read_bytes() == STORY


# ---- a bad connection ------------------------------------------------------------------------


def test_a_dropped_connection_is_taken_up_again(hub: Hub, pulled: Python) -> None:
    hub.repositories[NAME].drops["llama2c-93MB.bin"] = len(STORY) // 2
    result = pulled(NAME)
    if result.returncode:  # some versions leave it to the next call
        assert "\n" not in error_of(result)
        result = pulled(NAME)
    assert path_of(result).read_bytes() == STORY
    assert hub.downloads().count("llama2c-93MB.bin") == 2


def test_a_large_file_goes_on_where_the_connection_broke(hub: Hub, pulled: Python) -> None:
    there = hub.repositories[NAME]
    there.files["llama2c-93MB.bin"] = LARGE
    there.drops["llama2c-93MB.bin"] = 15_000_000
    result = pulled(NAME)
    if result.returncode:  # some versions leave it to the next call
        result = pulled(NAME)
    assert path_of(result).read_bytes() == LARGE
    (first, begin), (again, at) = [r for r in hub.ranges if r[0] == "llama2c-93MB.bin"]
    assert (first, begin) == (again, 0)
    assert 10_000_000 <= at <= 15_000_000


def test_the_store_of_large_files_is_not_told_the_token(hub: Hub, pulled: Python) -> None:
    """The server refuses what is asked for with it there."""
    there = hub.repositories[NAME]
    there.token = "hf_secret"
    there.files["llama2c-93MB.bin"] = LARGE
    assert path_of(pulled(NAME, HF_TOKEN="hf_secret")).read_bytes() == LARGE
    there.lfs.clear()  # from the hub itself, it comes with the token
    assert path_of(pulled(NAME, "--revision", "v1", HF_TOKEN="hf_secret")).read_bytes() == LARGE


def killed(hub: Hub, environment: dict[str, str]) -> None:
    """A download that ends with its process, half of the file being there."""
    there = hub.repositories[NAME]
    there.stalls.add("llama2c-93MB.bin")
    command = [sys.executable, "-m", "tinyzh", "pull", NAME]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert hub.stalled.wait(60)
        blobs = Path(environment["HF_HOME"]) / "hub"
        for _ in range(600):  # until what was sent has arrived
            if sum(p.stat().st_size for p in blobs.rglob("*.incomplete")) >= 10_000_000:
                break
            time.sleep(0.05)
        process.kill()
    there.stalls.clear()
    hub.stalled.clear()
    hub.ranges.clear()


@pytest.mark.parametrize("in_git", [False, True])
def test_a_large_file_goes_on_after_a_kill(
    hub: Hub, environment: dict[str, str], pulled: Python, in_git: bool
) -> None:
    there = hub.repositories[NAME]
    there.files["llama2c-93MB.bin"] = LARGE
    if in_git:
        there.lfs.clear()
    killed(hub, environment)
    path = path_of(pulled(NAME))
    assert path.read_bytes() == LARGE
    ((_, at),) = [r for r in hub.ranges if r[0] == "llama2c-93MB.bin"]
    assert 10_000_000 <= at <= 13_000_000
    blobs = path.resolve().parent
    assert not list(blobs.glob("*.incomplete"))
    assert path.resolve().stat().st_mode == (path.parent / "tokenizer.model").stat().st_mode


def test_what_has_come_of_another_file_is_not_gone_on_from_twice(
    hub: Hub, environment: dict[str, str], pulled: Python
) -> None:
    hub.repositories[NAME].files["llama2c-93MB.bin"] = LARGE
    killed(hub, environment)
    (part,) = (Path(environment["HF_HOME"]) / "hub").rglob("*.incomplete")
    part.write_bytes(bytes(len(part.read_bytes())))
    assert "of another SHA-256" in error_of(pulled(NAME))
    assert path_of(pulled(NAME)).read_bytes() == LARGE


def test_xet_that_does_not_work(hub: Hub, pulled: Python) -> None:
    pytest.importorskip("hf_xet", reason="hf_xet is not installed")
    pytest.importorskip("huggingface_hub.utils._xet", reason="huggingface_hub is older than Xet")
    hub.repositories[NAME].xet = True
    message = error_of(pulled(NAME, HF_HUB_DISABLE_XET="0"))
    assert "HF_HUB_DISABLE_XET=1" in message
    assert path_of(pulled(NAME, HF_HUB_DISABLE_XET="1")).read_bytes() == STORY


def test_no_connection(hub: Hub, pulled: Python) -> None:
    hub.stop_answering()
    message = error_of(pulled(NAME))
    assert message.startswith(f"{NAME}: no connection to {hub.url} (")
    assert "HF_ENDPOINT" in message


@pytest.mark.parametrize("fault", ["gone", "busy"])
def test_without_connection_the_cache_serves(hub: Hub, pulled: Python, fault: str) -> None:
    path = path_of(pulled(NAME))
    if fault == "gone":
        hub.stop_answering()
    else:
        hub.status = 503
    result = pulled(NAME)
    assert path_of(result) == path
    assert result.stderr.startswith("tinyzh: note: ")
    assert result.stderr.endswith("; this is what the cache has\n")


@pytest.mark.parametrize(
    ("status", "words"), [(503, "answers 503 just now"), (200, "does not answer as a hub does")]
)
def test_a_server_that_is_no_use(hub: Hub, pulled: Python, status: int, words: str) -> None:
    hub.status = status
    message = error_of(pulled(NAME))
    assert words in message
    assert "HF_ENDPOINT" in message


def test_offline_and_not_in_the_cache(hub: Hub, pulled: Python, tmp_path: Path) -> None:
    for arguments, env in (((NAME, "--offline"), {}), ((NAME,), {"HF_HUB_OFFLINE": "1"})):
        message = error_of(pulled(*arguments, **env))
        assert message.startswith(f"{NAME}: not in the cache {tmp_path}")
        assert "pull it once with a connection" in message
    assert hub.requests == []


def test_offline_the_cache_is_chosen_from(hub: Hub, pulled: Python) -> None:
    folder = path_of(pulled(f"{NAME}:pytorch_model.bin"))
    assert path_of(pulled(NAME, "--offline")) == folder
    message = error_of(pulled(f"{NAME}:llama2c-93MB.bin", "--offline"))
    assert "in the cache: no file llama2c-93MB.bin; there are config.json" in message


# ---- files that are not what they should be --------------------------------------------------


def cached_files(tmp_path: Path) -> set[bytes]:
    hub = tmp_path / "hf" / "hub"
    return {
        p.read_bytes()
        for p in hub.glob("models--*/**/*")
        if p.is_file() and p.suffix != ".incomplete"  # from where some versions go on
    }


@pytest.mark.parametrize("file", ["llama2c-93MB.bin", "tokenizer.model", "generation_config.json"])
def test_wrong_content(hub: Hub, pulled: Python, tmp_path: Path, file: str) -> None:
    there = hub.repositories[NAME]
    wrong = bytes([there.files[file][0] ^ 1]) + there.files[file][1:]
    there.sent[file] = wrong
    which = NAME + ":pytorch_model.bin" if file.endswith("json") else NAME
    message = error_of(pulled(which))
    assert re.search(
        rf"{re.escape(file)} from {hub.url} is of another (SHA-256|Git's SHA-1)", message
    )
    assert "removed from the cache: pull again" in message
    assert wrong not in cached_files(tmp_path)
    there.sent.clear()
    path_of(pulled(which))
    assert there.files[file] in cached_files(tmp_path)


@pytest.mark.parametrize("careless", [False, True])
def test_git_lfs_pointer(hub: Hub, pulled: Python, tmp_path: Path, careless: bool) -> None:
    there = hub.repositories[NAME]
    there.sent["llama2c-93MB.bin"] = pointer(STORY)
    there.sizes_of_sent = careless
    message = error_of(pulled(NAME))
    assert "Git LFS pointer" in message
    assert "HF_ENDPOINT" in message
    if careless:
        assert f"a Git LFS pointer of {len(pointer(STORY))} bytes in place of the file" in message
    assert pointer(STORY) not in cached_files(tmp_path)
    there.sent.clear()
    there.sizes_of_sent = False
    result = pulled(NAME)
    if result.returncode:  # the version went on from the pointer
        assert "of another SHA-256" in error_of(result)
        result = pulled(NAME)
    assert path_of(result).read_bytes() == STORY


def test_git_lfs_pointer_that_is_all_there_is(hub: Hub, pulled: Python) -> None:
    there = hub.repositories[NAME]
    there.files["llama2c-93MB.bin"] = pointer(STORY)
    there.lfs.clear()
    assert "a Git LFS pointer, which is all that this hub has" in error_of(pulled(NAME))


def test_what_is_cached_is_hashed_only_if_asked(hub: Hub, pulled: Python) -> None:
    path = path_of(pulled(NAME))
    blob = path.resolve()
    blob.write_bytes(bytes([STORY[0] ^ 1]) + STORY[1:])
    assert path_of(pulled(NAME)) == path
    assert "of another SHA-256" in error_of(pulled(NAME, "--verify"))
    assert path_of(pulled(NAME)).read_bytes() == STORY


def test_a_cached_file_of_another_length_is_seen(hub: Hub, pulled: Python) -> None:
    blob = path_of(pulled(NAME)).resolve()
    blob.write_bytes(STORY[:-100])
    assert f"is {len(STORY) - 100} bytes instead of {len(STORY)}" in error_of(pulled(NAME))
    assert path_of(pulled(NAME)).read_bytes() == STORY


# ---- errors ----------------------------------------------------------------------------------


def test_repository_that_is_not_there(hub: Hub, pulled: Python) -> None:
    message = error_of(pulled("nobody/nothing"))
    assert message.startswith(f"nobody/nothing: no such repository at {hub.url}")


def test_another_architecture_is_refused_before_its_weights_come(hub: Hub, pulled: Python) -> None:
    there = hub.repositories[NAME]
    there.files["config.json"] = json.dumps(CONFIG | {"model_type": "qwen2"}).encode()
    message = error_of(pulled(f"{NAME}:pytorch_model.bin"))
    assert message.startswith(f"{NAME}: ")
    assert "config.json: model_type 'qwen2'; this engine computes LlamaForCausalLM" in message
    assert "pytorch_model.bin" not in hub.downloads()
    assert "config.json" in hub.downloads()
    path_of(pulled(NAME))  # another model lies beside it


def test_gated(hub: Hub, pulled: Python) -> None:
    hub.repositories[NAME].gated = True
    message = error_of(pulled(NAME))
    assert message.startswith(f"{NAME}: is gated; accept its conditions at {hub.url}/{NAME}")


def test_file_that_is_not_there(hub: Hub, pulled: Python) -> None:
    message = error_of(pulled(f"{NAME}:llama2c.bin"))
    assert message.startswith(f"{NAME}: no file llama2c.bin; there are .gitattributes")
    assert "llama2c-93MB.bin" in message


def test_several_models(hub: Hub, pulled: Python) -> None:
    hub.repositories[NAME].files["small.bin"] = b"small"
    message = error_of(pulled(NAME), code=2)
    assert message.startswith(f"{NAME}: several models: llama2c-93MB.bin, small.bin; say which")
    assert hub.downloads() == []


@pytest.mark.parametrize("name", ["stories", "a/b/c", "a/", "a/b:", "../x", "a b/c", "a/b--c", ""])
def test_no_name(hub: Hub, pulled: Python, name: str) -> None:
    assert name in error_of(pulled(name), code=2)
    assert hub.requests == []


def test_cache_that_is_a_file(pulled: Python, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = error_of(pulled(NAME, "--cache-dir", str(tmp_path / "file")))
    assert message.startswith(f"{NAME}: [Errno ")


def test_from_pretrained_passes_on_what_it_is_given(
    hub: Hub, python: Python, tmp_path: Path
) -> None:
    hub.repositories[NAME].token = "hf_secret"
    code = f"""
import tinyzh
given = dict(revision="v1", file="llama2c-93MB.bin", cache_dir={str(tmp_path / "own")!r})
tinyzh.Model.from_pretrained({NAME!r}, token="hf_secret", **given).close()
with tinyzh.Model.from_pretrained({NAME!r}, local_files_only=True, threads=1, **given) as model:
    print(model.threads)
"""
    told = python("-c", code)
    assert told.stdout == "1\n", told.stderr
    assert len([r for r in hub.requests if NAME in r and "/api/" in r]) == 1


def test_file_given_twice() -> None:
    with pytest.raises(tinyzh.InvalidArgument, match=r"twice, a\.bin and b\.bin"):
        tinyzh.Model.from_pretrained("a/b:a.bin", file="b.bin")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such terminals")
def test_progress_bars_are_for_terminals(environment: dict[str, str]) -> None:
    import fcntl
    import pty
    import termios

    code = f"""
from huggingface_hub.utils import are_progress_bars_disabled
from tinyzh import hub
hub.pull({NAME!r}, progress=False)
assert not are_progress_bars_disabled()
hub.pull({NAME!r}, "pytorch_model.bin")
"""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    subprocess.run([sys.executable, "-c", code], env=environment, stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert "pytorch_model.bin: 100%" in shown
    assert "llama2c-93MB.bin" not in shown


@pytest.mark.parametrize(
    ("code", "remedy"), [("ENOSPC", "free some space"), ("EACCES", "choose a folder that may be")]
)
def test_disk_that_takes_nothing(python: Python, code: str, remedy: str) -> None:
    program = f"""
import errno, os, huggingface_hub, tinyzh
def full(*_, **__):
    raise OSError(errno.{code}, os.strerror(errno.{code}), "/cache/blob")
huggingface_hub.hf_hub_download = full
try:
    tinyzh.Model.from_pretrained({NAME!r})
except tinyzh.FileError as error:
    print(error, type(error.__cause__).__name__)
"""
    message = python("-c", program).stdout
    assert message.startswith("/cache/blob: ")
    assert remedy in message
    assert "HF_HOME" in message
    assert message.endswith("Error\n")  # huggingface_hub's own, for whoever wants to know


def test_the_pages_examples_run(hub: Hub, python: Python) -> None:
    page = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    told = python("-c", code)
    assert told.returncode == 0, told.stderr
    assert len(told.stdout) > 50


def test_paths_that_lead_out_of_the_cache(hub: Hub, pulled: Python) -> None:
    there = hub.repositories[NAME]
    there.files = {"../out.bin": STORY, "a/../../out.bin": STORY, "a\\..\\out.bin": STORY}
    assert "no model among its files: none at all" in error_of(pulled(NAME))
