"""Tasks: a model and a data set enter; results, embeddings and recalls leave."""
