"""The words of the tables, in the two languages of the README."""

from __future__ import annotations

LANGUAGES = ("en", "zh")

COLUMNS = {
    "a": ("a: start to first score, s", "a：启动到首个分数，秒"),
    "b": ("b: one image, 3 texts, ms", "b：一张图配 3 条文本，毫秒"),
    "c": ("c: files to embeddings, images/s", "c：文件到向量，张/秒"),
    "d": ("d: 1,000 class names, texts/s", "d：1,000 个类名，条/秒"),
    "d8": ("d: 8,000 prompts, texts/s", "d：8,000 条提示，条/秒"),
    "e": ("e: tokenizer, strings/s", "e：分词，条/秒"),
    "f": ("f: preprocessing, images/s a core", "f：预处理，张/秒/核"),
    "g": ("g: files to top-5, images/s", "g：文件到前五类，张/秒"),
    "h": ("h: installed, MB", "h：安装体积，MB"),
    "memory": ("h: peak memory, MiB", "h：内存峰值，MiB"),
}
PEER = ("peer", "对象")
PRECISION = ("precision", "精度")
CAPTION = (
    "{date}, {cpu}, {cores} cores, commit {commit}; random weights of ViT-B/32's shapes, 256 ImageNet photographs. "
    "Median of {rounds} alternated rounds or more. ✻ computes something else than the reference and is not compared; "
    "– not offered. Lower is better in a, b and h, higher elsewhere. "
    "[docs/peers.md](docs/peers.md) has the goals, the limits of the machine, versions and notes.",
    "{date}，{cpu}，{cores} 核，提交 {commit}；ViT-B/32 结构的随机权重，256 张 ImageNet 照片。取不少于 {rounds} 轮"
    "交替测量的中位数。✻ 表示结果与参考实现不同，不参与比较；– 表示不提供该功能。a、b、h 越小越好，其余越大越好。"
    "目标、本机的物理上限、版本与说明见 [docs/peers.md](docs/peers.md)。",
)
