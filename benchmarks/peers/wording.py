"""The words of the tables, in the two languages of the README."""

from __future__ import annotations

COLUMNS = {
    "a": ("time to first result, s", "首个结果用时，秒"),
    "b": ("latency, ms", "延迟，毫秒"),
    "c": ("image throughput with decoding, images/s", "图片吞吐（含解码），张/秒"),
    "d": ("text throughput, class names, texts/s", "文本吞吐（类名），条/秒"),
    "d8": ("text throughput, prompts, texts/s", "文本吞吐（提示词），条/秒"),
    "e": ("tokenizer, texts/s", "分词，条/秒"),
    "f": ("preprocessing, images/s a core", "预处理，张/秒/核"),
    "g": ("classification, images/s", "分类，张/秒"),
    "memory": ("peak memory, MiB", "内存峰值，MiB"),
    "h": ("install size, MB", "安装体积，MB"),
}
MEANING = {
    "a": "From the start of a process to its first scores: one image, three texts, files in the system's cache.",
    "b": "One image and three texts in a process that is warm: the median call, images and texts change.",
    "c": "From 256 JPEG files to embeddings, in batches.",
    "d": "1,000 ImageNet class names to embeddings, tokenizing included.",
    "d8": "8,000 prompts (8 templates of each class name) to embeddings, tokenizing included.",
    "e": "The tokenizer alone, on texts that it has not seen. One figure a peer: its rows run the same code.",
    "f": "From files to the pixels that the image encoder takes, one thread on one core. One figure a peer: its rows "
    "run the same code.",
    "g": "From 256 JPEG files to the five best of 1,000 classes, whose embeddings are given; the pipeline takes names "
    "only and embeds them in each call.",
    "memory": "Peak memory of a process that embeds 64 photographs and 64 class names.",
    "h": "What a fresh environment takes on disk, without Python itself.",
}
PEER = ("library", "库")
PRECISION = ("precision", "精度")
CAPTION = (
    "Medians, the least and the most of several rounds in brackets. {machine}, {cores} cores, {date}; ViT-B/32 with "
    "random weights, 256 ImageNet photographs, 8,000 prompts. Commits, and rounds in brackets: {rounds}. "
    "[docs/peers.md](docs/peers.md) has all rows and how each was measured.",
    "数值为中位数，括号内是多轮中的最小值和最大值。{machine}，{cores} 个核心，{date}；采用 ViT-B/32 结构、随机权重，"
    "256 张 ImageNet 照片，8,000 条提示词。提交（括号内为轮数）：{rounds}。"
    "完整数据和测量方法见 [docs/peers.md](docs/peers.md)。",
)
ROUNDS = ("{work} ({count})", "{work}（{count}）")
JOINTS = (("; ", ": ", ", "), ("；", "：", "、"))
"""Between commits, behind a commit, and between its works."""
