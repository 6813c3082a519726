"""Make tests/golden/chinese_clip.json: transformers' embeddings of the small Chinese-CLIP checkpoints of the tests.

Beside them stand the ids that cn_clip makes of texts with the small vocabulary.

Needs torch and transformers, and cn_clip's ``bert_tokenizer.py``, a file of its wheel. Run from the repository's root:

    pip download --no-deps cn_clip==1.6.0
    unzip cn_clip-1.6.0-py3-none-any.whl -d cn_clip_wheel
    python tools/make_chinese_clip_golden.py cn_clip_wheel/cn_clip/clip/bert_tokenizer.py
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from chinese_clip_checkpoints import (  # noqa: E402 - after the path is set
    MODELS,
    Model,
    draw_ids,
    draw_images,
    write_checkpoint,
    write_vocabulary,
)
from convert_checkpoints import MEAN, STD  # noqa: E402

TEXTS = (
    "一只黑猫在雪地里的照片。",
    "皮卡丘!Photo of the DOG, CAFÉ\u3000café",
    "a photo of [SEP] 2021",
    "dfghi abcda ÀÉ 0\u200b1\t2\n\ud83d",
    "s" * 150,
    "s" * 201,
    "鼍 unknown 龘",
    "一" * 60,
    "的 " * 50,
)
CONTEXT = 52


def import_tokenizer(path: Path) -> Any:
    """Import cn_clip's tokenizer alone: the package itself needs torchvision."""
    sys.modules.setdefault("six", types.SimpleNamespace(PY3=True, PY2=False))  # type: ignore[arg-type]
    spec = importlib.util.spec_from_file_location("bert_tokenizer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encode(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text as ``cn_clip.clip.tokenize`` puts them together, without padding."""
    inner: list[int] = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))[: CONTEXT - 2]
    return [tokenizer.vocab["[CLS]"], *inner, tokenizer.vocab["[SEP]"]]


def embed(model: Model) -> dict[str, npt.NDArray[np.float32]]:
    """Embed and score with transformers' ChineseCLIPModel, in float64."""
    import torch
    from transformers import ChineseCLIPModel

    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), model)
        reference, told = ChineseCLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), told
    reference = reference.double().eval()
    pixels = (draw_images(model) / 255.0 - np.array(MEAN)) / np.array(STD)
    ids = torch.from_numpy(draw_ids(model)).long()
    with torch.no_grad():
        found = reference(
            pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
            input_ids=ids,
            attention_mask=(ids != 0).long(),
        )
    return {
        "image": found.image_embeds.numpy(),
        "text": found.text_embeds.numpy(),
        "scores": found.logits_per_image.softmax(dim=1).numpy(),
    }


def main() -> None:
    """Write the golden file."""
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        vocabulary = write_vocabulary(Path(folder) / "vocab.txt")
        tokenizer = import_tokenizer(Path(sys.argv[1])).FullTokenizer(vocab_file=str(vocabulary))
    golden: dict[str, Any] = {"made_by": "tools/make_chinese_clip_golden.py"}
    golden["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__, "cn_clip": "1.6.0"}
    golden["ids"] = {text: encode(tokenizer, text) for text in TEXTS}
    golden["models"] = {
        name: {part: [[float(f"{item:.8g}") for item in row] for row in rows] for part, rows in embed(model).items()}
        for name, model in MODELS.items()
    }
    path = ROOT / "tests" / "golden" / "chinese_clip.json"
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")
    print(f"wrote {path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
