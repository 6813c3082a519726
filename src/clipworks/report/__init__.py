"""Reports: saved results in, tables and images out; nothing is run again.

`sources` reads files, one module a kind turns them into a part of a `document`, and `text`, `html` and `plots` show it.
"""
