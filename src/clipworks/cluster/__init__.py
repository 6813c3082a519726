"""Past one machine: the work of ``classify`` and ``embed`` on Ray Data, into a folder of Parquet shards.

```
driver:  source -> plan -> pieces                              collect -> shards, manifest
                             |                                    ^
workers:                   read, decode (tasks) -> encode, score (actors)
```

`plan` cuts the source into shards, pieces and blocks; `reading` and `decoding` are the CPU tasks; `encoding` is the
pool of actors that hold the model; `stages` and `cluster` are Ray; `collecting` writes a shard when all of it has come;
`running` puts them together, `job` says what a run is asked and how far it is; `decoder_process` is where images are
decoded, so that one that kills its decoder is one error. What is done with one block is
`clipworks.pipeline`'s, as on one machine. Ray is imported on first use.
"""
