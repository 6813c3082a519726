"""Towers: what a tower is before a runtime has it: its architecture and weights, and its equations in numpy.

A converted bundle stores each tower as safetensors, under the names that the fields of `weights` spell:
``patch_embed``, ``cls_token``, ``pos_embed``, ``norm_pre``, ``layers.0.norm1``, ``layers.0.q``, ``.k``, ``.v``,
``.proj``, ``.norm2``, ``.fc1``, ``.fc2``, ``norm``, ``head``, ``token_embed`` of texts, and
``attn_pool.latent`` and the like of a pooling by attention. They are timm's, with
queries, keys and values apart. Each map has a ``weight`` ``[in, out]``, as ONNX's MatMul takes it, so that a graph can
refer to the file instead of holding a copy, and most have a ``bias``; an int8 map also has what compressed-tensors
calls ``weight_scale``, ``input_scale`` and ``input_zero_point``. What `folding` does has been done: the pixels' mean
and std, the norms' weights and biases and the attention's scale are in the maps.
"""
