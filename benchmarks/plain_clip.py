"""CLIP's towers as anyone would write them in plain PyTorch: modules of torch.nn, float images, texts of 77 tokens.

The weights are those of a transformers CLIPModel; `gpu.py` times these beside ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PlainLayer(nn.Module):  # type: ignore[misc,unused-ignore]  # Any where PyTorch is not installed
    """One layer, its parts in the order of the paper."""

    def __init__(self, source: Any, heads: int) -> None:
        """Take over a layer of transformers."""
        super().__init__()
        attention = source.self_attn
        self.attention = nn.MultiheadAttention(attention.embed_dim, heads, batch_first=True)
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.attention.in_proj_weight.data = torch.cat([part.weight for part in parts]).detach()
        self.attention.in_proj_bias.data = torch.cat([part.bias for part in parts]).detach()
        self.attention.out_proj.load_state_dict(attention.out_proj.state_dict())
        self.before, self.between = source.layer_norm1, source.layer_norm2
        self.expand, self.contract = source.mlp.fc1, source.mlp.fc2

    def forward(self, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Rows to rows, ``[n, length, width]``."""
        normal = self.before(rows)
        rows = rows + self.attention(normal, normal, normal, attn_mask=mask, need_weights=False)[0]
        inner = self.expand(self.between(rows))
        out: Tensor = rows + self.contract(inner * torch.sigmoid(1.702 * inner))
        return out


class PlainTowers(nn.Module):  # type: ignore[misc,unused-ignore]  # as above
    """Both towers, QuickGELU, the text pooled at its largest id."""

    def __init__(self, source: Any) -> None:
        """Take over a CLIPModel of transformers."""
        super().__init__()
        image, text, sizes = source.vision_model, source.text_model, source.config
        self.patches, self.cls_row = image.embeddings.patch_embedding, image.embeddings.class_embedding
        self.image_places, self.first = image.embeddings.position_embedding.weight, image.pre_layrnorm
        self.last, self.image_projection = image.post_layernorm, source.visual_projection
        self.tokens, self.text_places = text.embeddings.token_embedding, text.embeddings.position_embedding.weight
        self.final, self.text_projection = text.final_layer_norm, source.text_projection
        self.image_layers = nn.ModuleList(
            PlainLayer(layer, sizes.vision_config.num_attention_heads) for layer in image.encoder.layers
        )
        self.text_layers = nn.ModuleList(
            PlainLayer(layer, sizes.text_config.num_attention_heads) for layer in text.encoder.layers
        )

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Float ``[n, 3, size, size]``, normalised, to ``[n, dim]``."""
        rows = self.patches(pixels).flatten(2).transpose(1, 2)
        rows = torch.cat([self.cls_row.expand(len(rows), 1, -1), rows], dim=1) + self.image_places
        rows = self.first(rows)
        for layer in self.image_layers:
            rows = layer(rows, None)
        out: Tensor = self.image_projection(self.last(rows[:, 0]))
        return out

    def embed_texts(self, ids: Tensor) -> Tensor:
        """int64 ``[n, length]`` to ``[n, dim]``."""
        length = ids.shape[1]
        rows = self.tokens(ids) + self.text_places[:length]
        mask = torch.full((length, length), float("-inf"), dtype=rows.dtype, device=rows.device).triu(1)
        for layer in self.text_layers:
            rows = layer(rows, mask)
        pooled = self.final(rows)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=1)]
        out: Tensor = self.text_projection(pooled)
        return out
