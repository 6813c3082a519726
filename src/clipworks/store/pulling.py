"""From a name to a bundle in the cache: download, convert, check, and put in place in one step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from clipworks.bundle.files import Bundle, read_bundle, write_card
from clipworks.bundle.provenance import NO_ANSWERS
from clipworks.errors import BundleError, ClipworksWarning, ConversionError, DownloadError
from clipworks.store.hub import Progress, download_file, is_offline
from clipworks.store.known import Target, find_target, models_folder, work_folder
from clipworks.store.sources import Found, find_files

# An image and a few texts prove a conversion; more prove no more, and take minutes with the largest models.
_CHECKED_IMAGES, _CHECKED_TEXTS = 1, 5


def pull_model(
    model: str, *, offline: bool = False, force: bool = False, check: bool = True, progress: Progress | None = None
) -> Bundle:
    """Bring a model here, if it is not here yet.

    A download that broke off is resumed by the next call; two processes that pull the same model share one download. A
    checkpoint in the hub library's own cache is used where it is.

    Args:
        model: as `clipworks.store.known.find_target` takes it.
        offline: never ask the hub; HF_HUB_OFFLINE in the environment means the same.
        force: download and convert again.
        check: compare the converted towers with the checkpoint's equations, and what they give with what is published.
        progress: told in one line what is going on, many times a second.

    Raises:
        DownloadError: the files are not available.
        ConversionError: the checkpoint cannot be converted, contradicts what is published, or the check failed.
    """
    target = find_target(model)
    note = progress or (lambda _: None)
    folder = models_folder() / target.key
    work = work_folder(target)
    with _lock(target, work, note):
        if not force:
            with contextlib.suppress(BundleError):  # a broken one is as good as none
                return read_bundle(folder)
        if target.known is not None and target.known.forbids:
            forbidden = f"its licence, {target.known.licence}, forbids {' and '.join(target.known.forbids)}"
            warnings.warn(ClipworksWarning(f"{target.name}: {forbidden}"), stacklevel=2)
        found = find_files(target, offline=offline or is_offline())
        checkpoint = found.folder or _download(found, work, note)
        made = work / "bundle"
        shutil.rmtree(made, ignore_errors=True)
        note(f"{target.name}: converting")
        try:
            _convert(found, checkpoint, made, target, check=check, note=note)
            old = work / "replaced"
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.replace(old)  # goes away with the working folder
            made.replace(folder)
        finally:  # what was downloaded stays for the next try, what was made of it does not
            shutil.rmtree(made, ignore_errors=True)
    return read_bundle(folder)


@contextlib.contextmanager
def _lock(target: Target, work: Path, note: Progress) -> Iterator[None]:
    """Keep other processes from pulling the same model, and take the working folder away after success."""
    from filelock import FileLock, Timeout

    locks = work.parent / "locks"
    try:
        work.mkdir(parents=True, exist_ok=True)
        locks.mkdir(exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{work} cannot be made: {error.strerror}", hint="set CLIPWORKS_CACHE to a folder that can be written"
        ) from None
    lock = FileLock(locks / f"{target.key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"{target.name}: waiting for another process that pulls it")
        lock.acquire()
    try:
        work.mkdir(exist_ok=True)  # who held the lock before may have taken it away
        yield
        shutil.rmtree(work, ignore_errors=True)
    finally:
        lock.release()


def _download(found: Found, work: Path, note: Progress) -> Path:
    if found.repository is None:
        raise DownloadError(
            f"only some files of {found.source.hub} are here, and asking the hub is forbidden",
            hint=f"when online, run: clipworks models pull {found.source.hub}",
        )
    folder = work / f"{found.repository.hub.replace('/', '--')}@{found.repository.commit}"
    files = found.choice.files
    for number, name in enumerate(files, 1):
        progress = functools.partial(_tell, note, f"file {number} of {len(files)}: ")
        download_file(found.repository, name, folder, progress=progress)
    return folder


def _tell(note: Progress, place: str, told: str) -> None:
    note(place + told)


def _convert(found: Found, checkpoint: Path, made: Path, target: Target, *, check: bool, note: Progress) -> None:
    """Make the bundle in a folder of its own, with a card that says where it comes from."""
    from clipworks.convert import adopt_towers, compare_with_checkpoint, convert_checkpoint, require_answers

    if found.choice.layout.ready_made:
        if target.known is None or (card := target.known.describe()) is None:
            raise ConversionError(
                f"{target.name} holds ready-made ONNX towers, which do not say how to preprocess images or scale "
                "scores",
                hint=f"write a card and run: clipworks models convert {checkpoint} --card CARD -o BUNDLE",
            )
        bundle = adopt_towers(checkpoint, made, card=card)
    else:
        bundle = convert_checkpoint(checkpoint, made, name=target.name, card=target.known)
        if check:
            note(f"{target.name}: comparing the towers with the checkpoint")
            result = compare_with_checkpoint(bundle, checkpoint, images=_CHECKED_IMAGES, texts=_CHECKED_TEXTS)
            if not result.equal:
                difference = max(result.image_difference, result.text_difference)
                raise ConversionError(
                    f"the converted towers of {target.name} differ from their checkpoint by {difference:.1e}; "
                    f"allowed: {result.limit:.0e}"
                )
    if check and bundle.card.answers != NO_ANSWERS:
        note(f"{target.name}: comparing what it gives with what is published")
        require_answers(bundle)
    source = dataclasses.replace(bundle.card.source, hub=found.source.hub, revision=found.source.revision)
    write_card(made, dataclasses.replace(bundle.card, source=source))
