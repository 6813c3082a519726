"""Reports: saved results in, one `document` out, which `terminal`, `markdown` and `html` show; nothing is run again."""
