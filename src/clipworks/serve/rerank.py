"""``POST /v1/rerank``: documents by how near they are to a query, images and texts on either side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clipworks import scoring
from clipworks.serve.embeddings import read_truncate, require_any, write_failure, write_usage
from clipworks.serve.items import Item, read_item
from clipworks.serve.limits import refuse
from clipworks.serve.preparing import Failure
from clipworks.serve.served_model import ServedModel
from clipworks.serve.times import Times


async def answer_rerank(model: ServedModel, body: Mapping[str, Any], times: Times) -> dict[str, Any]:
    """Rank documents; the relevance is the cosine of the two embeddings, from -1 to 1.

    Returns:
        The response. Documents that cannot be embedded stand in ``errors`` instead.

    Raises:
        RequestError: the request does not go, the query cannot be embedded, or none of the documents can.

    Source:
        The request bodies of Cohere's and Jina's rerank, as their documentation shows them.
    """
    documents = body.get("documents")
    if not isinstance(documents, list) or not documents:
        raise refuse("documents", "documents is no list of texts or images; allowed: one or more")
    top = body.get("top_n", len(documents))
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise refuse("top_n", f"top_n is {str(top)[:60]!r}; allowed: a whole number from 1 on")
    model.limits.check_items(1 + len(documents))
    query = read_item(body.get("query"), "query")
    items = [read_item(entry, f"documents[{place}]") for place, entry in enumerate(documents)]
    first, *embedded = await model.embed([query, *items], times, truncate=read_truncate(body))
    require_any([first])
    require_any(embedded)
    assert not isinstance(first, Failure)  # as was required
    found = [(place, one.row) for place, one in enumerate(embedded) if not isinstance(one, Failure)]
    cosines = scoring.compare(first.row[None], np.stack([row for _, row in found]))[0]
    returned = body.get("return_documents") is True
    results = [
        {"index": found[index][0], "relevance_score": float(cosines[index])}
        | ({"document": _write_document(items[found[index][0]])} if returned else {})
        for index in scoring.rank(cosines, top)
    ]
    errors = [{"index": place, **write_failure(one)} for place, one in enumerate(embedded) if isinstance(one, Failure)]
    response = {"object": "list", "model": model.name, "results": results, "usage": write_usage(times)}
    return response | ({"errors": errors} if errors else {})


def _write_document(item: Item) -> dict[str, Any]:
    return {item.role: item.value if isinstance(item.value, str) else None}
