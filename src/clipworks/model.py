"""A model ready to use: card, images, tokens and two encoders in; unit embeddings and scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn, Self, overload

import numpy as np

from clipworks import runtimes
from clipworks.arguments import Report, check_pixels, check_texts, list_choices, list_texts, list_tokens
from clipworks.errors import UsageError
from clipworks.options import DEFAULT_IMAGE_OPTIONS, DEFAULT_RUNTIME_OPTIONS, ImageOptions, RuntimeOptions, check_count
from clipworks.scoring import ComparedTexts, Floats, Match, Matches, embed_batch
from clipworks.text.batches import stage_ahead
from clipworks.text.tokenizers import open_tokenizer

if TYPE_CHECKING:
    from clipworks.bundle.card import Card
    from clipworks.bundle.files import Bundle
    from clipworks.datasets.listing import Sample
    from clipworks.images.decode import ImageLike
    from clipworks.images.resize import Pixels
    from clipworks.pipeline import EmbeddedBlock, LoopOptions
    from clipworks.text.tokenizers import Ids

IMAGE_BATCH, TEXT_BATCH = 32, 1024  # larger ones win nothing on a CPU; measured in docs/performance.md


class Model:
    """A bundle with its towers compiled. `load` makes one; all methods may be called from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS,
        images: ImageOptions = DEFAULT_IMAGE_OPTIONS,
        *,
        towers: runtimes.Role | Sequence[runtimes.Role] = runtimes.ROLES,
    ) -> None:
        self.card: Card = bundle.card  # the facts of the model
        self.image_options = images  # how images are read
        towers = list_choices("towers", towers, runtimes.ROLES)
        self.streams = runtimes.choose_streams(options)  # batches of images encoded at once
        read = (lambda: open_tokenizer(bundle.tokenizer, bundle.card.text)) if "text" in towers else lambda: None
        self._encoders, self._tokenizer = runtimes.open_encoders(bundle, towers, options, meanwhile=read)
        first = next(iter(self._encoders.values()))
        # What is in use, as the runtime reports it.
        self.runtime, self.device, self.precision = first.runtime, first.device, first.precision
        self.floats = first.floats  # the type of what is computed in floats: the precision itself, but in int8 towers
        self.why = first.why  # what ``auto`` went by where the runtime or the precision was left to it; else None
        self.instruction_set = first.instruction_set  # None where the runtime does not say

    def embed_dataset(
        self,
        samples: Sequence[Sample],
        options: LoopOptions | None = None,
        *,
        first: int = 0,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[EmbeddedBlock[Sample]]:
        """Embed a data set block by block: the loop of every task; see `clipworks.pipeline.embed_blocks`."""
        from clipworks.images.decoders import PillowDecoder
        from clipworks.pipeline import LoopOptions, Steps, embed_blocks

        options = options or LoopOptions()
        decoder = options.decoder or PillowDecoder(self.card.image, options=self.image_options)
        steps: Steps[Sample] = Steps(
            prepare=lambda sample: decoder.prepare(sample.member or sample.file),
            develop=decoder.develop,
            encode=self.embed_pixels,
        )
        return embed_blocks(samples, steps, options, first=first, streams=self.streams, stop=stop)

    def embed_images(self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = IMAGE_BATCH) -> Floats:
        """Embed images.

        Args:
            images: one or many: paths, bytes of image files, files open in binary mode, Pillow images, uint8 arrays
                ``[H, W, 3]``, ``[H, W]``, ``[H, W, 4]``, or one array ``[n, H, W, C]``.
            batch_size: images encoded at once.

        Returns:
            float32 unit rows ``[n, dim]`` in the given order.

        Raises:
            ImageError: an image cannot be decoded; the message names it.
            UsageError: something that is no image, or a batch size below 1.
        """
        from clipworks.images.decode import list_images
        from clipworks.pipeline import LoopOptions, Steps, embed_blocks, gather_rows

        size = check_count("batch size", batch_size)
        listed = list_images(images)
        self._encoder("image")  # so that a missing tower is told also when there is no image
        if len(listed) == 1:  # threads would only cost
            return self.embed_pixels(self.prepare_image(listed[0])[None])
        steps: Steps[ImageLike] = Steps(prepare=self.prepare_image, encode=self.embed_pixels)
        loop = LoopOptions(batch_size=size)
        return gather_rows(embed_blocks(listed, steps, loop, streams=self.streams), len(listed), self.card.dim)

    def prepare_image(self, image: ImageLike) -> Pixels:
        """Decode one image to the uint8 ``[size, size, 3]`` that the image tower takes; see `embed_images`."""
        from clipworks.images.decode import prepare_image

        return prepare_image(image, self.card.image, options=self.image_options)

    def embed_pixels(self, pixels: Pixels) -> Floats:
        """Embed one batch of decoded images, uint8 ``[n, size, size, 3]``, as float32 unit rows ``[n, dim]``."""
        return embed_batch(self._encoder("image"), check_pixels(pixels, self.card.image.size))

    def embed_texts(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int = TEXT_BATCH,
        truncate: bool = False,
        report: Report | None = None,
    ) -> Floats:
        """Embed texts; those of like length and prefix are encoded together: `clipworks.text.batches` tells why.

        Args:
            texts: one or many.
            batch_size: texts encoded at once at most, at least 1.
            truncate: cut a text that is longer than the model's context instead of raising.
            report: told after each batch how many texts are encoded, and of how many.

        Returns:
            float32 unit rows ``[n, dim]`` in the given order; one text gives ``[1, dim]``, none ``[0, dim]``.

        Raises:
            TextError: a text is empty or too long; the message names it.
            UsageError: something that is no text, or a batch size below 1.
        """
        size, prompts = check_count("batch size", batch_size), list_texts(texts)
        self._encoder("text")  # so that a missing tower is told before anything else
        assert self._tokenizer is not None  # opened together with the text tower
        return self._embed_ids(self._tokenizer.encode_ragged(prompts, truncate=truncate), size, report)

    def embed_tokens(self, texts: Sequence[Ids], *, batch_size: int = TEXT_BATCH) -> Floats:
        """Embed token ids, int32 ``[length]`` each with their start and end, as `embed_texts` does texts."""
        size = check_count("batch size", batch_size)
        self._encoder("text")  # as above
        return self._embed_ids(list_tokens(texts, self.card.text), size)

    def _embed_ids(self, texts: Sequence[Ids], size: int, report: Report | None = None) -> Floats:
        encoder, rows = self._encoder("text"), np.empty((len(texts), self.card.dim), dtype=np.float32)
        assert self._tokenizer is not None  # as above
        for part, batch in stage_ahead(encoder, texts, size=size, pad=self._tokenizer.pad, report=report):
            rows[part] = embed_batch(encoder, batch)
        return rows

    @overload
    def match(  # type: ignore[overload-overlap]  # a path is one image, and iterates its letters
        self, images: ImageLike, texts: Sequence[str], *, top: int | None = None, truncate: bool = False
    ) -> Match: ...

    @overload
    def match(
        self, images: Iterable[ImageLike], texts: Sequence[str], *, top: int | None = None, truncate: bool = False
    ) -> Matches: ...

    def match(
        self,
        images: ImageLike | Iterable[ImageLike],
        texts: Sequence[str],
        *,
        top: int | None = None,
        truncate: bool = False,
    ) -> Match | Matches:
        """Rank texts by how well they fit one image, or each of many.

        Args:
            images: as in `embed_images`.
            texts: at least one; equal texts stay separate entries.
            top: keep the best ``top`` only, at least 1; None for all. Scores are always over all texts.
            truncate: cut a text that is longer than the model's context instead of raising.

        Returns:
            Of one image its `Match`, the scores best first; ties keep the given order. Of several, `Matches`.

        Raises:
            ImageError: an image cannot be decoded; the message names it.
            TextError: no text, an empty one, or one over the context.
            UsageError: something that is no image, no text, or no number of texts.
        """
        from clipworks.images.decode import is_image, list_images, name_image

        top = None if top is None else check_count("top", top)
        if not is_image(images):
            listed, compared = list_images(images), self.prepare_texts(texts, truncate=truncate)
            rows = zip(listed, self.embed_images(listed), strict=True)
            return Matches(matches=tuple(compared.rank(row, image=name_image(one), top=top) for one, row in rows))
        self._encoder("image")  # so that a missing tower is told before anything else
        with ThreadPoolExecutor(1) as pool:  # decoding takes one core and encoding few texts does not fill the others
            decoding = pool.submit(self.prepare_image, images)
            compared = self.prepare_texts(texts, truncate=truncate)
            row = self.embed_pixels(decoding.result()[None])[0]
        return compared.rank(row, image=name_image(images), top=top)

    def prepare_texts(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        report: Report | None = None,
        rows: Floats | None = None,
    ) -> ComparedTexts:
        """Encode texts to compare images with; see `match` and `embed_texts`.

        ``rows``: those of the different texts, in the order of their first, where they are embedded already.
        """
        texts = check_texts(texts)
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        if rows is None:
            rows = self.embed_texts(list(places), truncate=truncate, report=report)
        made_by = Match(
            image=None,
            model=self.card.name,
            runtime=self.runtime,
            device=self.device,
            precision=self.precision,
            why=self.why,
            instruction_set=self.instruction_set,
            score_kind=self.card.score.kind,
        )
        order = [places[text] for text in texts]
        return ComparedTexts(texts=texts, rows=rows, places=order, rule=self.card.score, made_by=made_by)

    def close(self) -> None:
        """Free the towers' memory; the model cannot be used afterwards."""
        for encoder in self._encoders.values():
            encoder.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a compiled tower belongs to its process."""
        raise UsageError(
            "a model cannot be pickled or copied: its compiled towers belong to this process",
            hint="call clipworks.load in each process; the threads of one process may share a model",
        )

    def __repr__(self) -> str:
        """The model, what runs it, and what it takes and gives, in one line."""
        size, context = self.card.image.size, self.card.text.context
        takes = {"image": f"{size} x {size} pixels", "text": f"{context} tokens"}
        opened = ", ".join(f"{role} tower of {takes[role]}" for role in self._encoders)
        used = f"{self.runtime}, {self.device}, {self.precision}"
        return f"<clipworks.Model {self.card.name}: {used}; {opened}; {self.card.dim} dimensions>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encoder(self, role: runtimes.Role) -> runtimes.Encoder:
        if role not in self._encoders:
            hint = "load opens both where towers is left out"
            raise UsageError(f"this model was loaded without its {role} tower", hint=hint)
        return self._encoders[role]
