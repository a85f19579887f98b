"""Large files whose download goes on where an earlier call was cut off, be it by a kill.

huggingface_hub takes a broken connection up again within one call; in the next one, newer versions
begin anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..extras import require

__all__ = ["bring"]

_LARGE = 10 * 2**20  # bytes: less has come again as soon
_LITTLE = 2**20  # what is less than this may be the page of a mirror, and no beginning of a file


def bring(
    hub: Any,
    name: str,
    file: str,
    commit: str,
    *,
    size: int | None,
    hash: str | None,
    cache_dir: str | os.PathLike[str] | None,
    token: str | bool | None,
) -> None:
    """Puts a file's content into the cache, where ``hf_hub_download`` finds it.

    Does nothing for small files and those that are there, where there is nothing to win, and for
    those that come by Xet, which are left to hf_xet.

    Args:
        hub: the module huggingface_hub.
        size, hash: as the hub's listing has them; the hash is the content's name in the cache.
    """
    if size is None or size < _LARGE or hash is None:
        return
    download = require("huggingface_hub.file_download", "hub")
    folder = download.repo_folder_name(repo_id=name, repo_type="model")
    cache = Path(cache_dir or hub.constants.HF_HUB_CACHE)
    blob = cache / folder / "blobs" / hash
    if blob.exists():
        return
    headers = hub.utils.build_hf_headers(token=token)
    url = hub.hf_hub_url(name, file, revision=commit)
    found = hub.get_hf_file_metadata(url, token=token, headers=headers)
    if found.etag != hash or (getattr(found, "xet_file_data", None) and _has_xet(hub)):
        return
    if urlsplit(found.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the store of large files is not to be told
    lock = cache / ".locks" / folder / f"{hash}.lock"  # huggingface_hub's own
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{hash}.incomplete")
    with hub.utils.WeakFileLock(lock):
        if blob.exists():  # somebody else was faster
            return
        try:
            with part.open("ab", buffering=0) as stream:
                if stream.tell() > size:
                    stream.truncate(0)
                download.http_get(
                    found.location,
                    stream,
                    resume_size=stream.tell(),
                    headers=headers,
                    expected_size=size,
                    displayed_filename=file,
                )
        except BaseException:
            if part.exists() and not _LITTLE <= part.stat().st_size <= size:
                part.unlink()
            raise
        os.replace(part, blob)


def _has_xet(hub: Any) -> bool:
    known = getattr(hub.utils, "is_xet_available", None)
    return bool(known and known())
