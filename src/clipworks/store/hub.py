"""The model hub: what a repository holds, and its files downloaded, resumed where an earlier try broke off.

The library that talks to the hub no longer resumes a file after the process ends (huggingface_hub 2), so the
transfer itself is done here, over the library's session, with its endpoint, token and headers.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipworks.errors import DownloadError

Progress = Callable[[str], None]

OFFLINE_PAGE = "mirrors, proxies, copies: docs/offline.md"
_CHUNK = 1 << 20
_TIMEOUT_S = 30
# Tries without a single new byte before a transfer is given up, and the pause before each, in seconds.
_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a repository: its size, and its SHA-256 (hex) where the hub knows it, as it does of large files."""

    bytes: int | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What a model's repository holds at one commit."""

    hub: str
    commit: str
    files: dict[str, HubFile]


def is_offline() -> bool:
    """Whether the user's environment forbids asking the hub (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def list_repository(hub: str, revision: str | None) -> Repository:
    """Ask the hub what a repository ``owner/name`` holds at a commit, branch or tag, or now; raises DownloadError."""
    from huggingface_hub import HfApi

    with _clear_errors(hub, revision):
        found = HfApi().model_info(hub, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
    files = {
        entry.rfilename: HubFile(bytes=entry.size, sha256=entry.lfs.sha256 if entry.lfs else None)
        for entry in found.siblings or ()
    }
    if found.sha is None:
        raise DownloadError(f"the hub names no commit of {hub}")
    return Repository(hub=hub, commit=found.sha, files=files)


def find_snapshot(hub: str, revision: str | None) -> Path | None:
    """A repository's folder in the hub library's own cache, as transformers or others may have left it, or None."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "open_clip_config.json"):
        if isinstance(found := try_to_load_from_cache(hub, name, revision=revision), str):
            return Path(found).parent
    return None


def download_file(repository: Repository, name: str, folder: Path, *, progress: Progress) -> Path:
    """Download one of a repository's files, resuming where an earlier call broke off.

    It comes into ``folder`` under its own name, which must be used for this repository and commit alone.

    Raises:
        DownloadError: the transfer broke for good, or what came is not what the hub announced.
    """
    target = folder / name
    if target.is_file():
        return target
    expected = repository.files[name]
    part = target.with_name(target.name + ".part")
    with _clear_errors(repository.hub, repository.commit, name=name, folder=folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer(repository, name, part, progress)
        with part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest() if expected.sha256 else None
        found = part.stat().st_size
        if expected.bytes not in (None, found) or digest != expected.sha256:
            part.unlink()
            what = f"{found} bytes instead of {expected.bytes}" if expected.bytes != found else "another SHA-256"
            raise DownloadError(f"{name} of {repository.hub} arrived with {what}; it was thrown away", hint="try again")
        part.replace(target)
    return target


def _transfer(repository: Repository, name: str, part: Path, progress: Progress) -> None:
    """Append what is missing to ``part``, trying again while something comes."""
    from huggingface_hub import get_session

    network_error = _network_errors(get_session())
    tries = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _append(repository, name, part, progress)
        except network_error:
            tries = tries + 1 if part.exists() and part.stat().st_size <= before else 1
            if tries >= len(_PAUSES_S):
                raise
            time.sleep(_PAUSES_S[tries])
        else:
            return


def _append(repository: Repository, name: str, part: Path, progress: Progress) -> None:
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, yet not marked so

    total = repository.files[name].bytes
    here = part.stat().st_size if part.exists() else 0
    if total is not None and here >= total:
        if here == total:
            return
        here = 0  # longer than the file is: nothing of use
    # Compressed on the way, a range would count other bytes than the file's.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    url = hf_hub_url(repository.hub, name, revision=repository.commit)
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True) as response:
        hf_raise_for_status(response)
        resumed = response.status_code == 206
        here = here if resumed else 0
        with part.open("ab" if resumed else "wb") as stream:
            for chunk in response.iter_bytes(_CHUNK):
                stream.write(chunk)
                here += len(chunk)
                of = "" if total is None else f" of {total / 1e6:.1f}"
                progress(f"{repository.hub}: {name} {here / 1e6:.1f}{of} MB")


def _network_errors(session: Any) -> type[Exception]:
    """The base of the session's transport errors; the library has changed its HTTP client from version to version."""
    client = importlib.import_module(type(session).__module__.partition(".")[0])
    error: type[Exception] = client.TransportError
    return error


@contextmanager
def _clear_errors(
    hub: str, revision: str | None, *, name: str | None = None, folder: Path | None = None
) -> Iterator[None]:
    """Turn the library's errors, many lines long, into one line that says what to do."""
    from huggingface_hub import constants, errors, get_session

    what = f"{name} of {hub}" if name else hub
    try:
        yield
    except errors.GatedRepoError:
        raise DownloadError(
            f"{hub} is gated: its owners ask you to accept their terms first",
            hint=f"accept them at {constants.ENDPOINT}/{hub}, then log in with: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{hub} has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise _not_found(hub) from None
    except errors.EntryNotFoundError:
        raise DownloadError(f"{what} is no longer on the hub") from None
    except errors.OfflineModeIsEnabled:
        raise DownloadError(f"{what} is not here, and HF_HUB_OFFLINE forbids asking the hub") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401 and "Invalid credentials" not in str(error):
            raise _not_found(hub) from None
        hint = "see whether your token is right: hf auth whoami" if status in (401, 403) else "try again later"
        raise DownloadError(f"the hub answered {status} when asked for {what}", hint=hint) from None
    except (ImportError, ValueError) as error:  # of the HTTP client: a proxy that it cannot use
        raise _explain_proxy(error, what) from None
    except _network_errors(get_session()) as error:
        raise DownloadError(
            f"the hub at {constants.ENDPOINT} cannot be reached for {what}: {str(error) or type(error).__name__}",
            hint=f"run it again when the network is there: it resumes where it stopped; {OFFLINE_PAGE}",
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"{what} cannot be stored: {error.strerror or error}") from None
        raise DownloadError(
            f"no space left in {folder or os.curdir} for {what}", hint="set CLIPWORKS_CACHE to a roomier place"
        ) from None


def _explain_proxy(error: Exception, what: str) -> DownloadError:
    if isinstance(error, ImportError) and "SOCKS" in str(error):
        return DownloadError(
            f"{what} cannot be asked for: the proxy is a SOCKS proxy, which needs the package socksio",
            hint="pip install socksio, or name an HTTP proxy in HTTPS_PROXY and none in ALL_PROXY",
        )
    return DownloadError(f"{what} cannot be asked for: {str(error).partition(chr(10))[0]}", hint=OFFLINE_PAGE)


def _not_found(hub: str) -> DownloadError:
    """A stranger gets the same answer for what is missing and for what is private."""
    return DownloadError(
        f"the hub has no model {hub!r}, or it is private",
        hint="clipworks models list shows the known ones; for a private one log in with: hf auth login",
    )
