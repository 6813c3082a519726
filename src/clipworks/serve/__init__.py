"""HTTP: requests come in, embeddings and scores go out; what encodes stands in a process of its own, behind a queue."""
